#!/usr/bin/env python3
"""Token ids beside Hugging Face's: tests/tokens.py [-n BYTES] [-o DIR] ENCODE [TOKENIZER.JSON ...]

Makes 10 MB of mixed-script text and small tokenizers of each style (or takes
the files that are named), encodes the text with the tokenizers package and
with ENCODE (tests/unit/encode.c), and compares the ids and the text that they
are decoded to.  With sentencepiece installed its nmt_nfkc table is tried too.
Exits 77 where the tokenizers package is missing, 1 where something differs.
"""
import argparse
import base64
import collections
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import unicodedata

SPACE = "\u2581"
CODE = ["for (size_t i = 0; i < n; i++)\n\tsum += x[i];\n", "def f(x):\n    return x ** 2  # no\n\n\n",
        "{\"a\": [1, 2.5e-3, null]}", "<p class=\"x\">&amp;</p>", "SELECT * FROM t WHERE a_b != 'c';\r\n",
        "https://example.org/a?b=c&d=%20#e", "#include <stdio.h>\r\n\r\n", "x=>{y?.z??0}", "--x;\t\t// it's I'll we've\n"]
ODD = [SPACE, "<0x0A>", "<s>", "</s>", "<unk>", "\u0120", "\ufeff", "\u200b", "\u200d", "\u00ad", "\x01", "\x7f",
       "\ufffd", "\ue000", "\U000f0000", "\ufb01", "\u2126", "\u00bd", "\u3392", "\uff21\uff22\uff11", "\ufdfa",
       "\U0001d400\U0001d7d8", "\u0132", "\u1e9e", "\u0130", "\u01c5", "``", "...", "\u2026", "  ", "\u212b"]
EMOJI = ["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea",
         "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f642\U0001f642", "\u263a"]
BLANKS = [" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\u00a0", "\u3000", "\u2003", " \n ", "\u2028", "\v", "\x85"]
# Assigned long ago: what Unicode adds depends on whose tables are how old.
SCRIPTS = [(0x61, 0x7a), (0x61, 0x7a), (0x61, 0x7a), (0x41, 0x5a), (0xc0, 0x24f), (0x370, 0x3ff), (0x400, 0x4ff),
           (0x531, 0x587), (0x5d0, 0x5ea), (0x620, 0x652), (0x904, 0x94d), (0x985, 0x9cd), (0xb85, 0xbcd),
           (0xe01, 0xe3a), (0xe81, 0xeb0), (0xf40, 0xf80), (0x10d0, 0x10fa), (0x1100, 0x11c2), (0x1200, 0x135a),
           (0x1780, 0x17d2), (0x1e00, 0x1eff), (0x1f00, 0x1fff), (0x3041, 0x3096), (0x30a1, 0x30fc), (0x3131, 0x318e),
           (0x4e00, 0x9fa5), (0x4e00, 0x4eff), (0xac00, 0xd7a3), (0xf900, 0xfa6d), (0xff66, 0xff9d),
           (0x10400, 0x1044f), (0x20000, 0x200ff)]


def words(rng):
    """A fixed stock: text repeats its words, most of them rarely."""
    stock = []
    for low, high in SCRIPTS:
        for _ in range(700):
            stock.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 9))))
    return stock


def piece(rng, stock):
    k = rng.random()
    if k < 0.70:
        return stock[int(len(stock) * rng.random() ** 2)]
    if k < 0.76:
        return "".join(chr(rng.randint(*SCRIPTS[rng.randrange(len(SCRIPTS))])) for _ in range(rng.randint(1, 6)))
    if k < 0.82:
        return str(rng.randint(0, 10 ** rng.randint(1, 12))) + rng.choice(["", ".5", ",000", "%", "\u0661\u0662", "\u096b"])
    if k < 0.88:
        marks = [chr(rng.choice([0x300, 0x301, 0x323, 0x327, 0x345, 0x308, 0x5b0, 0x64b])) for _ in range(rng.randint(1, 4))]
        return rng.choice("aeiouAyz ") + "".join(marks) + rng.choice(["", "n"])
    if k < 0.91:
        return rng.choice(EMOJI) * rng.randint(1, 3)
    if k < 0.95:
        return rng.choice(CODE)
    if k < 0.97:
        return rng.choice(ODD)
    return rng.choice(".,;:!?()[]-\u2014\u00ab\u00bb\u3001\u3002\u00bf\"'")


def make_text(size):
    rng = random.Random(3)
    stock = words(rng)
    rng.shuffle(stock)
    out, n = [], 0
    while n < size:
        s = piece(rng, stock)
        if rng.random() < 0.8:
            s += " " if rng.random() < 0.8 else rng.choice(BLANKS) * rng.choice([1, 1, 1, 2, 5, 17])
        out.append(s)
        n += len(s.encode())
    return "".join(out)


# --- a Precompiled table, see lib/token/charsmap.h ---

def rewritings():
    table = {c: " " for c in "\t\n\r\u00a0\u3000\u2003\u2028\u0085"}
    table.update({c: "" for c in "\x01\x7f\u200b\ufeff"})
    for i in range(0x80, 0x20000):
        if 0xac00 <= i <= 0xd7a3 or 0xd800 <= i <= 0xdfff:
            continue
        c = chr(i)
        if c not in table and unicodedata.normalize("NFKC", c) != c:
            table[c] = unicodedata.normalize("NFKC", c)
        d = unicodedata.normalize("NFD", c)
        if len(d) == 2 and unicodedata.normalize("NFC", d) == c:
            table[d] = c
    return table


def charsmap(table):
    text, at, root = bytearray(), {}, {}
    for key, value in sorted(table.items()):
        if value not in at:
            at[value] = len(text)
            text += value.encode() + b"\0"
        node = root
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[0] = at[value]
    units, bases, todo, low = {0: 0}, set(), [(0, root)], 1
    while todo:
        place, node = todo.pop(0)
        base = low
        while base in bases or any(base ^ c in units for c in node):
            base += 1
        bases.add(base)
        while low in units:
            low += 1
        units[place] |= (base ^ place) << 10 | (256 if 0 in node else 0)
        for c, child in node.items():
            units[base ^ c] = child | 1 << 31 if c == 0 else c
            if c:
                todo.append((base ^ c, child))
    n = (max(units) // 256 + 1) * 256
    trie = b"".join(struct.pack("<I", units.get(i, 1 << 31)) for i in range(n))
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + bytes(text)).decode()


def nmt_nfkc():
    try:
        import io
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as pb
    except ImportError:
        return None
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(["a b c d e f g"] * 9), model_writer=model,
                                             vocab_size=12, normalization_rule_name="nmt_nfkc", minloglevel=2)
    m = pb.ModelProto.FromString(model.getvalue())
    return base64.b64encode(m.normalizer_spec.precompiled_charsmap).decode()


# --- the styles ---

BYTES = ["<0x%02X>" % i for i in range(256)]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace("{1,3}", "")


def lines(text):
    return [text[i:i + 200] for i in range(0, min(len(text), 600000), 200)]


def common(text, n):
    """The text without its rarer characters."""
    count = collections.Counter(text)
    keep = {c for c, _ in count.most_common(n)}
    return "".join(c for c in text if c in keep)


def save(tok, path, **changes):
    """changes: SECTION=value of the JSON, or MODEL_field."""
    o = json.loads(tok.to_str())
    o["added_tokens"] = [t for t in o["added_tokens"] if t["content"] not in BYTES]
    for key, value in changes.items():
        if key.startswith("model_"):
            o["model"][key[6:]] = value
        else:
            o[key] = value
    with open(path, "w") as f:
        json.dump(o, f, ensure_ascii=False)


def sentencepiece_bpe(text, path, gemma):
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", SPACE)
    tok.normalizer = replace if gemma else normalizers.Sequence([normalizers.Prepend(SPACE), replace])
    tok.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tok.decoder = decoders.Sequence(steps if gemma else steps + [decoders.Strip(" ", 1, 0)])
    tok.train_from_iterator(lines(text), trainers.BpeTrainer(
        vocab_size=6000, limit_alphabet=900, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"] + BYTES))
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    save(tok, path, pre_tokenizer=split if gemma else None)


def metaspace_bpe(text, path):
    """Llama-2 as later files say it, with tokens that are normalized and no byte fallback."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "always")
    tok.train_from_iterator(lines(text), trainers.BpeTrainer(
        vocab_size=4000, limit_alphabet=600, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"]))
    tok.add_tokens([AddedToken("SELECT", normalized=True), AddedToken("\U0001f642", single_word=True)])
    tok.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first", split=False)
    tok.decoder = decoders.Metaspace(SPACE, "first", split=False)
    save(tok, path)


def unigram(text, path, table, albert=False):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    tok = Tokenizer(models.Unigram())
    steps = [normalizers.Precompiled(base64.b64decode(table)), normalizers.Replace(Regex(" {2,}"), " ")]
    if albert:
        steps = [normalizers.Replace("``", "\""), normalizers.NFKD(), normalizers.StripAccents(),
                 normalizers.Lowercase(), normalizers.Strip()] + steps
    tok.normalizer = normalizers.Sequence(steps)
    meta = pre_tokenizers.Metaspace(SPACE, "always")
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), meta]) if albert else meta
    tok.decoder = decoders.Metaspace(SPACE, "always")
    special = ["<pad>", "<unk>", "</s>"]
    tok.train_from_iterator(lines(common(text, 2000).replace("<", ""))[:1500], trainers.UnigramTrainer(
        vocab_size=8000, unk_token="<unk>", show_progress=False, special_tokens=special + ([] if albert else BYTES)))
    save(tok, path, model_byte_fallback=not albert)


def bytelevel(text, path, style):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers as pre, trainers
    plain = pre.ByteLevel(add_prefix_space=False, use_regex=False)
    tok = Tokenizer(models.BPE(ignore_merges=style == "llama3"))
    tok.pre_tokenizer = {
        "gpt2": lambda: pre.ByteLevel(add_prefix_space=False),
        "smollm2": lambda: pre.Sequence([pre.Digits(True), pre.ByteLevel(add_prefix_space=False)]),
        "llama3": lambda: pre.Sequence([pre.Split(Regex(LLAMA3), "isolated"), plain]),
        "qwen": lambda: pre.Sequence([pre.Split(Regex(QWEN), "isolated"), plain]),
    }[style]()
    if style == "qwen":
        tok.normalizer = normalizers.NFC()
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(lines(text), trainers.BpeTrainer(
        vocab_size=8000, show_progress=False, initial_alphabet=pre.ByteLevel.alphabet(), special_tokens=["<s>", "</s>"]))
    save(tok, path)


def make_tokenizers(text, folder):
    paths = []

    def add(name, make, *more):
        paths.append(os.path.join(folder, name + ".json"))
        if not os.path.exists(paths[-1]):
            make(text, paths[-1], *more)

    add("llama2", sentencepiece_bpe, False)
    add("gemma", sentencepiece_bpe, True)
    add("metaspace", metaspace_bpe)
    for style in ["gpt2", "smollm2", "llama3", "qwen"]:
        add(style, bytelevel, style)
    table = charsmap(rewritings())
    add("unigram", unigram, table)
    add("unigram-albert", unigram, table, True)
    real = nmt_nfkc()
    if real:
        add("unigram-nmt_nfkc", unigram, real)
    return paths


# --- the comparison ---

def first_difference(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def compare(encode, path, text, raw):
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(path)
    start = time.process_time()
    want = tok.encode(text, add_special_tokens=False).ids
    theirs = time.process_time() - start
    run = subprocess.run([encode, path], input=raw, capture_output=True)
    if run.returncode:
        print("%s: %s" % (path, run.stderr.decode().strip()))
        return False
    got = [int(x) for x in run.stdout.split()]
    back = subprocess.run([encode, "-d", path], input=run.stdout, capture_output=True).stdout.decode(errors="replace")
    text_back = tok.decode(want, skip_special_tokens=False)
    same, same_text = got == want, back == text_back
    print("%-24s ids %-7s text %-7s %8d ids  %s (tokenizers %.1f s)" % (
        os.path.basename(path), "equal" if same else "DIFFER", "equal" if same_text else "DIFFERS", len(want),
        run.stderr.decode().split(",")[0], theirs), flush=True)
    if not same:
        i = first_difference(got, want)
        print("  at %d: %s, want %s" % (i, [tok.id_to_token(x) for x in got[i - 2:i + 5]],
                                        [tok.id_to_token(x) for x in want[i - 2:i + 5]]))
    if not same_text:
        i = first_difference(back, text_back)
        print("  text at %d: %r, want %r" % (i, back[i - 5:i + 20], text_back[i - 5:i + 20]))
    return same and same_text


def main():
    p = argparse.ArgumentParser(description="compare token ids with the tokenizers package")
    p.add_argument("-n", type=int, default=10_000_000, help="bytes of text")
    p.add_argument("-o", help="folder that keeps the text and the tokenizers")
    p.add_argument("encode", help="the program made from tests/unit/encode.c")
    p.add_argument("files", nargs="*", help="tokenizer.json files to try in place of made ones")
    a = p.parse_args()
    try:
        import tokenizers
    except ImportError:
        print("tokens.py: the tokenizers package is not installed", file=sys.stderr)
        return 77
    text = make_text(a.n)
    raw = text.encode()
    print("# tokenizers %s, %d bytes of text" % (tokenizers.__version__, len(raw)), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = a.o or scratch
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "text"), "wb") as f:
            f.write(raw)
        files = a.files or make_tokenizers(text, folder)
        return 0 if all([compare(a.encode, f, text, raw) for f in files]) else 1


if __name__ == "__main__":
    sys.exit(main())
