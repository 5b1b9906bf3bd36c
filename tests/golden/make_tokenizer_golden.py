#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: small vocabularies and what other tokenizers make of some lines.

    python tests/golden/make_tokenizer_golden.py tests/golden/tokenizer      (make golden)

splits.jsonl   the lines, each cut into words by every pre-tokenizer: [text, {rule: [bytes of each word]}].
               By Hugging Face `tokenizers` from the regular expressions below; Python's `regex` must agree,
               but for characters that its newer Unicode has put into another category.
bpe.gguf       a byte-level vocabulary trained on the lines, with control and user-defined tokens.
bpe.jsonl      [pre-tokenizer, parse special tokens, text, ids], by `tokenizers` and llama.cpp, which must agree.
spm.gguf       a SentencePiece vocabulary with byte tokens, made of the same merges.
spm.jsonl      [space in front, parse special tokens, text, ids], by llama.cpp.
"""

import ctypes
import json
import os
import random
import sys
import tempfile

import gguf
import llama_cpp as ll
import regex
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cl100k(numbers, letters=r"\p{L}", others=r"\p{L}\p{N}"):
    return (
        CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?" + letters + r"+|\p{N}" + numbers
        + r"| ?[^\s" + others + r"]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def o200k(contractions, numbers):
    front = r"[^\r\n\p{L}\p{N}]?"
    return (
        front + UPPER + "*" + LOWER + "+" + contractions + "|" + front + UPPER + "+" + LOWER + "*" + contractions
        + r"|\p{N}" + numbers + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


# deepseek-llm lists the cased letters of an older Unicode; here as code points, since some would not survive an editor.
CASED = """
41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1
3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77
1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe
1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124
2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3
a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a
10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943
"""
CASED = "".join("-".join(chr(int(end, 16)) for end in span.split("-")) for span in CASED.split())
RULES = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [cl100k("{1,3}")],
    "qwen2": [cl100k("")],
    "qwen35": [cl100k("", r"[\p{L}\p{M}]", r"\p{L}\p{M}\p{N}")],
    "minicpm5": [r"\p{N}{1,3}", cl100k("+")],
    "gpt-4o": [o200k(CONTRACTIONS + "?", "{1,3}")],
    "tekken": [o200k("", "")],
    "falcon": [r"[\p{P}$+<=>\^~|`]+", GPT2, "[0-9][0-9][0-9]"],
    "default": [r"[\p{P}$+<=>\^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "deepseek-llm": [
        r"[\r\n]",
        r"\s?[" + CASED + "]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        "[一-龥ࠀ-一가-퟿]+",
        r"\p{N}+",
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    "deepseek-v3": [
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    ],
}

FIXED = [
    "The quick brown fox doesn't jump; it'll've 'SLEPT' at 12:34, I'M sure we're HE'D 'ſ 's.",
    "  two spaces\n\n\nthree newlines\r\n\tindented   \n   trailing   ",
    "1 12 123 1234 12345 1234567890 3.14 ½²Ⅷ ١٢٣٤ १२३४ 00000007",
    "helloWorldFooBAR HTTPServer ÉTÉÉté ǅungla iPhone ΑΘήνα МОСКВАгород 中文ABC中文abc",
    "naïve café coöperate e\u0301te\u0301 \u0301a \u0301 ก็ हिन्दी में क्या",
    "C:\\path\\file.txt //comment/ /a/b\n/\r\n $x+y=z^2~`|<>| `code` ```rust\n",
    "!?!? ... --- ___ ((())) [x] {y} «z» “q” 。、！？　全角　space",
    "今天天气很好。コーヒーを２杯ください！안녕하세요 세계 ࠀࠁ 龥龦",
    "😀👍🏽👨‍👩‍👧‍👦🇩🇪❤️ ☃\ufe0f 1️⃣ \u200b\u200d\ufeff\u00ad\u0085\u2028\u2029x",
    "\x00\x01\x02 \x1b[31m\x7f \x1c\x1d\x1e\x1f \u00a0\u2003\u3000\u1680 a\u00a0b",
    "<|im_start|>user\nhi <user>there<|im_end|>\n<|im_start|>assistant\n",
    "<user><user> <use <|im_end| |> <|endoftext|>",
    "can't CAN'T can'ſ x'S'T''ll 'l 'r 'v l'l 're",
    "a" * 100 + " " * 40 + "b" + "\n" * 20 + "=" * 70,
    "abababab" * 20,
    "ж" * 60,
]
PIECES = [
    *"abcxyzABCZ019 \n\t\r'.,!/-_$+|<=>`~^éÉßжЖαΩ中文か가ק\u0301\u0903½٣😀\u200d\u00a0\u3000\x01\u0378",
    "'s", "'LL", "  ", "\n\n", "\r\n", " the", "ing", "123", "Foo", "...", "//", " 中",
]


def lines():
    r = random.Random(7)
    made = ["".join(r.choice(PIECES) for _ in range(r.randrange(1, 30))) for _ in range(150)]
    return FIXED + made


def split_by_regex(rules, text):
    parts = [text]
    for rule in rules:
        parts = [piece for part in parts for piece in regex.splititer("(" + rule + ")", part, flags=regex.V0) if piece]
    return [len(p.encode()) for p in parts]


def split_by_tokenizers(rules, text):
    rule = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r), "isolated") for r in rules])
    return [len(p.encode()) for p, _ in rule.pre_tokenize_str(text)]


def newer(text):
    """Whether Python's `regex` knows a character of `text` that `tokenizers` takes for unassigned."""
    known = pre_tokenizers.Split(Regex(r"\P{Cn}"), "removed")
    return any(regex.match(r"\P{Cn}", c) and known.pre_tokenize_str(c) for c in text)


def splits(texts):
    for text in texts:
        cut = {name: split_by_tokenizers(rules, text) for name, rules in RULES.items()}
        for name, rules in RULES.items():
            assert newer(text) or split_by_regex(rules, text) == cut[name], (name, text)
        yield [text, cut]


CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER = ["<user>", "<user><user>"]


def train(texts):
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(texts * 2 + ["the thing is that other one"] * 9, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = CONTROL + USER + sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [tuple(m) for m in model["merges"]]


def hugging_face(tokens, merges, rules, ignore_merges, special):
    vocab = {t: i for i, t in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    split = [pre_tokenizers.Split(Regex(r), "isolated") for r in rules]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        split + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    if special:
        tokenizer.add_special_tokens(CONTROL)
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in USER])
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def llama_cpp(path):
    params = ll.llama_model_default_params()
    params.vocab_only = True
    model = ll.llama_model_load_from_file(path.encode(), params)
    assert model, path
    vocab = ll.llama_model_get_vocab(model)

    def encode(text, special):
        raw = text.encode()
        ids = (ll.llama_token * (len(raw) + 8))()
        n = ll.llama_tokenize(vocab, raw, len(raw), ids, len(ids), False, special)
        assert n >= 0
        return list(ids[:n])

    return encode


def write_bpe(path, tokens, merges, pre):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([3 if t in CONTROL else 4 if t in USER else 1 for t in tokens])
    w.add_token_merges([" ".join(m) for m in merges])
    w.add_eos_token_id(2)
    finish(w)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def bpe(out, texts):
    tokens, merges = train(texts)
    write_bpe(os.path.join(out, "bpe.gguf"), tokens, merges, "gpt-2")
    for pre, ignore_merges in (("gpt-2", False), ("llama-bpe", True), ("smollm", False)):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "v.gguf")
            write_bpe(path, tokens, merges, pre)
            other = llama_cpp(path)
        for special in (False, True):
            encode = hugging_face(tokens, merges, RULES[pre], ignore_merges, special)
            for text in texts:
                ids = encode(text)
                # llama.cpp does not take ſ for an s; the expression does.
                assert ids == other(text, special) or "ſ" in text, (pre, text, ids, other(text, special))
                yield [pre, special, text, ids]


def write_spm(path, tokens, prefix):
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    texts, kinds, scores = zip(*tokens)
    w.add_token_list(list(texts))
    w.add_token_types(list(kinds))
    w.add_token_scores(list(scores))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_space_prefix(prefix)
    finish(w)


def spm(out, texts):
    """Pieces by merging characters as a trainer would; scores fall with the rank, some of them equal."""
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, limit_alphabet=60)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(["▁" + t.replace(" ", "▁") for t in texts], trainer)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    tokens = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0)]
    tokens += [("<0x%02X>" % b, 6, 0.0) for b in range(256)]
    tokens += [("<|im_start|>", 3, 0.0), ("<|im_end|>", 3, 0.0), ("<user>", 4, 0.0), ("\n\n\n", 4, 0.0)]
    tokens += [(p, 1, -float(i // 3)) for i, p in enumerate(pieces)]
    for prefix in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "v.gguf")
            write_spm(path, tokens, prefix)
            encode = llama_cpp(path)
        for special in (False, True):
            for text in texts:
                yield [prefix, special, text, encode(text, special)]
    write_spm(os.path.join(out, "spm.gguf"), tokens, True)


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    ll.llama_backend_init()
    texts = lines()
    for name, rows in (("splits", splits(texts)), ("bpe", bpe(out, texts)), ("spm", spm(out, texts))):
        path = os.path.join(out, name + ".jsonl")
        with open(path, "w", encoding="utf-8") as f:
            for row in rows:
                f.write(json.dumps(row, separators=(",", ":")) + "\n")
        print(f"{path}: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
