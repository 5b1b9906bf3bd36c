#!/usr/bin/env python3
"""Makes tests/golden/token_lines.jsonl: 10,000 varied lines and what SmolLM2's tokenizer makes of them.

    python tests/golden/make_token_lines.py MODEL.gguf OUT.jsonl      (make golden)

Every line is tokenized by Hugging Face `tokenizers`, built from the file's own vocabulary and merges, and by
llama.cpp; they must agree. A line of the file is [text, number of ids, FNV-1a hash of the ids as
little-endian u32]; the first FULL lines carry the ids themselves in the hash's place. The vocabulary has no token
for 21 of the 256 bytes; a line that holds one of those cannot come back and ends in a fourth element, 1.
"""

import ctypes
import json
import os
import random
import sys

import gguf
import llama_cpp as ll
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

LINES = 10_000
FULL = 200

SENTENCES = {
    "english": [
        "The ferry left the harbour at a quarter past seven, and nobody waved.",
        "She'd said they'll come; we've waited, I'm tired, you're late, it's over, he'd known.",
        "Does anyone know why the clock in the hall stopped at 11:42?",
        "Bread, butter, two eggs & a pinch of salt: that's all it takes!",
    ],
    "german": [
        "Der größte Käse wiegt über fünfzig Kilo, sagte die Bäuerin stolz.",
        "Am Donaudampfschifffahrtsgesellschaftskapitänspatent hängt ein Foto.",
        "Straße, Füße, Ärger, Öl und Übermut gehören zusammen.",
    ],
    "french": [
        "L'été dernier, nous avons mangé des crêpes près de la forêt.",
        "Où est passé le garçon qui n'aimait ni la pluie ni l'école ?",
        "« Ça suffit ! », s'écria-t-elle ; l'œuf était déjà cassé.",
    ],
    "spanish": [
        "¿Cuántos años tiene la niña que canta en la plaza?",
        "¡Qué sorpresa! Mañana viajaré a Córdoba con mi abuelo.",
        "El pingüino averiguó dónde estaba la cigüeña.",
    ],
    "russian": [
        "Поезд опоздал на двадцать минут, и мы пили чай в буфете.",
        "Ёжик нашёл в лесу подберёзовик и объявил об этом всем.",
        "Кто рано встаёт, тому Бог подаёт.",
    ],
    "chinese": [
        "今天的天气很好，我们一起去公园散步吧。",
        "他用三年时间学会了修理旧钟表。",
        "一二三四五，上山打老虎；價格是１２３元。",
    ],
    "japanese": [
        "昨日の夜、窓の外で猫が鳴いていました。",
        "コーヒーを二杯ください。砂糖はいりません。",
        "東京スカイツリーは高さ６３４メートルです！",
    ],
    "korean": [
        "내일 아침 일찍 시장에 가서 사과를 살 거예요.",
        "할머니는 옛날이야기를 들려주셨다.",
        "대한민국의 수도는 서울입니다.",
    ],
    "arabic": [
        "ذهب الولد إلى المدرسة في الصباح الباكر.",
        "اشتريتُ كتابًا جديدًا بـ ٤٥ درهمًا.",
        "السلام عليكم، كيف حالك اليوم؟",
    ],
    "hindi": [
        "मुझे बारिश में पुरानी किताबें पढ़ना अच्छा लगता है।",
        "दिल्ली से आगरा की दूरी लगभग २३० किलोमीटर है।",
        "क्या आप कल मेरे साथ बाज़ार चलेंगे?",
    ],
    "thai": ["เมื่อวานฝนตกหนักมากจนถนนน้ำท่วม", "กรุงเทพมหานครเป็นเมืองหลวง ๑๒๓"],
    "greek": ["Η θάλασσα ήταν ήρεμη και ο ουρανός καθαρός.", "Ποιος ξέρει τι ώρα είναι;"],
    "hebrew": ["הילדה קראה ספר מתחת לעץ הזית.", "שָׁלוֹם עֲלֵיכֶם"],
    "turkish": ["İstanbul'da ılık bir gündü, ığdır'a gidecektik.", "Şoför çiçeği göğsüne iliştirdi."],
}
CODE = [
    "fn main() { let x: u32 = 0xFF_u32.wrapping_add(1); println!(\"{x:?}\"); }",
    "for (int i = 0; i < n; ++i) a[i] += b[i] * c[i]; // saxpy",
    "def f(x, *args, **kw):  return {k: v for k, v in kw.items() if v is not None}",
    "SELECT name, COUNT(*) FROM users WHERE age >= 18 GROUP BY name ORDER BY 2 DESC;",
    "<div class=\"box\" id='a1'><p>&nbsp;text&amp;more</p></div>",
    "{\"a\":[1,2.5e-3,null,true],\"b\":{\"c\":\"\\u00e9\"}}",
    "\tif [[ -z \"$1\" ]]; then\texit 64; fi",
    "https://example.org/path/to/page.html?q=a%20b&x=1#top",
    "x^2 + y^2 = z^2; \\frac{a}{b} \\leq \\sum_{i=0}^{n} i",
    "    return    a==b   &&   c!=d;",
    "<|im_start|>user\nhello<|im_end|>",
    "#include <stdio.h>\r\nint main(void){return 0;}\r\n",
]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "🇯🇵🇫🇷", "❤️", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🤷‍♀️", "1️⃣", "🎉🎉🎉", "☕", "🧑🏿‍🚀"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u2003", "\u200b", "\u3000", "\u2028", "\x0b", "\x0c", "\x85"]
ODD = ["\x00", "\x01", "\x07", "\x08", "\x1b[31m", "\x7f", "\u00ad", "\u0301", "\u0308e", "\ufeff", "\u202e", "\ufffd", "\ue000", "\U0010ffff"]
DIGITS = ["0", "7", "42", "1999", "3.14159", "1,000,000", "½", "²", "Ⅷ", "١٢٣", "४५६", "①", "1e-9", "0x1F", "12:30", "2026-11-23"]
PIECES = ["'s", "'S", "'ll", "'LL", "'t", "'re", "'ve", "'m", "'d", "''", "...", "!?!", "--", "—", "“quoted”", "$5", "50%", "@me", "#tag", "a_b", "C++", "e.g.", "(x)", "[y]", "~/.config"]


def any_scalar(r):
    while True:
        c = r.choice([r.randrange(0x20, 0x250), r.randrange(0x250, 0x3000), r.randrange(0x3000, 0x10000), r.randrange(0x10000, 0x32000), r.randrange(0x110000)])
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def sentence(r):
    return r.choice(SENTENCES[r.choice(list(SENTENCES))])


def words(r):
    text = sentence(r)
    a = r.randrange(len(text))
    text = text[a : a + r.randrange(1, 60)]
    return r.choice([text, text, text, text.upper(), text.title(), text[::-1]])


def line(r):
    kind = r.randrange(12)
    if kind <= 2:
        return r.choice(["", " "]) + sentence(r)
    if kind == 3:
        return " ".join(words(r) for _ in range(r.randrange(1, 4)))
    if kind == 4:
        code = r.choice(CODE)
        return code[r.randrange(len(code) // 2) :] + r.choice(["", "\n", " "]) + r.choice(PIECES)
    if kind == 5:
        return "".join(r.choice([r.choice(EMOJI), words(r)[:12], " "]) for _ in range(r.randrange(1, 8)))
    if kind == 6:
        return "".join(r.choice(SPACES) * r.choice([1, 1, 2, 5]) + r.choice(["", words(r)[:10]]) for _ in range(r.randrange(1, 8)))
    if kind == 7:
        return "".join(r.choice([r.choice(ODD), words(r)[:8]]) for _ in range(r.randrange(1, 8)))
    if kind == 8:
        return "".join(r.choice([r.choice(DIGITS), r.choice(PIECES), " ", "x"]) for _ in range(r.randrange(1, 12)))
    if kind == 9:
        return "".join(any_scalar(r) for _ in range(r.randrange(1, 20)))
    if kind == 10:
        return "".join(r.choice(PIECES) + r.choice(["", " "]) + words(r)[:6] for _ in range(r.randrange(1, 6)))
    if r.random() < 0.15:
        unit = r.choice(["a", "ab", "Xy", "=", "-", " ", "あ", "ж", "9", "é", "hello", "\n", "ا", "😀"])
        return (unit * 1500)[: r.randrange(200, 1500)]
    letters = r.choice(["abcdefghijklmnopqrstuvwxyz", "ABCdef", "абвгдежз", "aéîõü", "01"])
    return "".join(r.choice(letters) for _ in range(r.randrange(1, 120)))


def hugging_face(reader):
    """The file's own vocabulary and merges behind the `smollm` pre-tokenizer: single digits, then GPT-2's split."""
    tokens = reader.fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ", 1)) for m in reader.fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama_cpp(path):
    params = ll.llama_model_default_params()
    params.vocab_only = True
    vocab = ll.llama_model_get_vocab(ll.llama_model_load_from_file(path.encode(), params))

    def encode(text):
        raw = text.encode()
        ids = (ll.llama_token * (len(raw) + 8))()
        n = ll.llama_tokenize(vocab, raw, len(raw), ids, len(ids), False, False)
        assert n >= 0
        return list(ids[:n])

    return encode


def bytes_to_letters():
    """How byte-level BPE spells each byte: printable Latin-1 as itself, the others from U+0100 upwards."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(0x100 + i) for i, b in enumerate(others)}


def fnv1a(ids):
    h = 0x811C9DC5
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        h = ((h ^ byte) * 0x01000193) & 0xFFFFFFFF
    return h


def main():
    model, out = sys.argv[1:3]
    quiet = ll.llama_log_callback(lambda level, text, data: None)
    ll.llama_log_set(quiet, ctypes.c_void_p(0))
    ll.llama_backend_init()
    hf, ours = hugging_face(gguf.GGUFReader(model)), llama_cpp(model)
    vocab = set(hf.get_vocab())
    spelled = bytes_to_letters()
    missing = {byte for byte, letter in spelled.items() if letter not in vocab}
    r = random.Random(20261123)
    rows, differ = [], []
    while len(rows) < LINES:
        text = line(r)
        ids = hf.encode(text, add_special_tokens=False).ids
        if ids != ours(text):
            differ.append((text, ids, ours(text)))
            continue
        lossy = [1] if missing & set(text.encode()) else []
        assert lossy or hf.decode(ids, skip_special_tokens=False) == text
        rows.append([text, len(ids), ids if len(rows) < FULL else fnv1a(ids), *lossy])
    with open(out, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{out}: {os.path.getsize(out)} bytes; {len(differ)} lines left out where the two disagree")
    for text, a, b in differ[:20]:
        print("  ", repr(text[:80]), a[:12], b[:12])


main()
