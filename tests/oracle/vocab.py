"""A byte-level BPE vocabulary for test models, one in SentencePiece's form, and the tokenizers that go with them.

The merges are learned from a few lines of text, so that the tokenizer of a test model really tokenizes.
Byte-level text is split as Llama 3 does it (tokenizer.ggml.pre = llama-bpe), which needs the PyPI package `regex`;
all else needs nothing.
"""

import functools

TEXT = """\
A river starts small, high in the hills, and by the time it meets the sea it is wide and slow. On the way
it has turned a mill, carried a boat, watered a field and given a village its name. Nobody asked it to.
The engineer counts: 12 bolts, 345 nuts, 6789 washers; she's sure that none of them is missing, isn't she?
When the lights go out, the small machine in the corner keeps on counting, one token after another.
let mut sum = 0; for (a, b) in row.iter().zip(column) { sum += a * b; }  // multiply and add
if (x > 0) { return x * x; } else { return 0; }
User: What does the small machine say? Assistant: It says what it has read, one word at a time.
Le fleuve descend vers la mer. Der Fluss flie\u00dft ins Meer. \u5ddd\u306f\u6d77\u3078\u6d41\u308c\u308b \U0001f30a
"""

SPLIT = (r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

NORMAL, CONTROL, UNUSED = 1, 3, 5


def _byte_letters():
    """GPT-2's printable letter for each byte value."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(other)}}


LETTER = _byte_letters()
BYTE = {c: b for b, c in LETTER.items()}


def _join(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def _learn(texts, limit):
    """The most frequent pair first; among equals the one that sorts first."""
    words = {}
    for w in texts:
        words[tuple(w)] = words.get(tuple(w), 0) + 1
    merges = []
    while len(merges) < limit:
        count = {}
        for w, n in words.items():
            for pair in zip(w, w[1:]):
                count[pair] = count.get(pair, 0) + n
        if not count:
            break
        best = min(count, key=lambda p: (-count[p], p))
        merges.append(best)
        words = {_join(w, best): n for w, n in words.items()}
    return merges


@functools.cache
def learn_merges(limit):
    """Words are split at spaces, which is coarser than any pre-tokenizer and enough to learn from."""
    words = ((" " if i else "") + w for line in TEXT.splitlines() for i, w in enumerate(line.split(" ")))
    return _learn([[LETTER[b] for b in w.encode()] for w in words], limit)


def build(size, specials):
    """(tokens, types, merges): 256 bytes, merges, unused ids up to `size`, the special tokens last."""
    room = size - 256 - len(specials)
    if room < 0:
        raise SystemExit(f"a vocabulary of {size} has no room for 256 bytes and {len(specials)} special tokens")
    merges = learn_merges(min(room, 300))
    tokens = [LETTER[b] for b in range(256)] + [a + b for a, b in merges]
    types = [NORMAL] * len(tokens)
    spare = size - len(tokens) - len(specials)
    tokens += [f"[PAD{i}]" for i in range(spare)] + list(specials)
    types += [UNUSED] * spare + [CONTROL] * len(specials)
    return tokens, types, [f"{a} {b}" for a, b in merges]


class Tokenizer:
    """Encoder and decoder of a byte-level BPE model with Llama 3's pre-tokenizer."""

    def __init__(self, meta):
        import regex
        self.tokens = meta["tokenizer.ggml.tokens"]
        self.types = meta["tokenizer.ggml.token_type"]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(meta["tokenizer.ggml.merges"])}
        self.bos = meta.get("tokenizer.ggml.bos_token_id")
        control = sorted((t for t, k in zip(self.tokens, self.types) if k == CONTROL), key=len, reverse=True)
        self.control = regex.compile("(" + "|".join(map(regex.escape, control)) + ")")
        self.split = regex.compile(SPLIT)
        self.memo = {}

    def _word(self, text):
        if text not in self.memo:
            w = tuple(LETTER[b] for b in text.encode())
            while "".join(w) not in self.ids and len(w) > 1:
                best = min(zip(w, w[1:]), key=lambda p: self.rank.get(p, len(self.rank)))
                if best not in self.rank:
                    break
                w = _join(w, best)
            whole = "".join(w)
            self.memo[text] = [self.ids[whole]] if whole in self.ids else [self.ids[t] for t in w]
        return self.memo[text]

    def encode(self, text, bos=True):
        out = [self.bos] if bos and self.bos is not None else []
        for part in self.control.split(text):
            if part in self.ids and self.types[self.ids[part]] == CONTROL:
                out.append(self.ids[part])
            else:
                for word in self.split.findall(part):
                    out += self._word(word)
        return out

    def decode(self, ids):
        raw = b""
        for i in ids:
            t = self.tokens[i]
            raw += t.encode() if self.types[i] == CONTROL else bytes(BYTE[c] for c in t)
        return raw.decode("utf-8", "replace")


SPACE = "\u2581"  # in SentencePiece's tokens
PIECE_MARKS = ["<unk>", "<s>", "</s>"]


@functools.cache
def build_pieces(size):
    """(tokens, types, merges) as Llama 2's: marks, bytes, what merges make, characters. Every way to put a token
    together from two others is a merge, as in tokenizer.json files made from SentencePiece models."""
    words = [SPACE + w for line in TEXT.splitlines() for w in line.split(" ")]
    characters = sorted({c for w in words for c in w})
    made = dict.fromkeys(a + b for a, b in _learn(words, size - len(PIECE_MARKS) - 256 - len(characters)))
    tokens = [*PIECE_MARKS, *(f"<0x{b:02X}>" for b in range(256)), *made, *characters]
    known = set(tokens)
    merges = [(t[:i], t[i:]) for t in made for i in range(1, len(t)) if t[:i] in known and t[i:] in known]
    types = [2, CONTROL, CONTROL] + [6] * 256 + [NORMAL] * (len(made) + len(characters))
    return tokens + [f"[PAD{i}]" for i in range(len(tokens), size)], types + [UNUSED] * (size - len(tokens)), merges


class Pieces:
    """The encoder of such a vocabulary, by its merges: one space in front, and bytes for what is no token."""

    def __init__(self, tokens, merges):
        self.ids = {t: i for i, t in enumerate(tokens)}
        self.rank = {m: i for i, m in enumerate(merges)}

    def encode(self, text):
        w = []
        for c in (SPACE + text.replace(" ", SPACE)) if text else "":
            w += [c] if c in self.ids else [f"<0x{b:02X}>" for b in c.encode()]
        while len(w) > 1:
            at = min(range(len(w) - 1), key=lambda i: self.rank.get((w[i], w[i + 1]), len(self.rank)))
            if (w[at], w[at + 1]) not in self.rank:
                break
            w[at:at + 2] = [w[at] + w[at + 1]]
        return [self.ids[t] for t in w]
