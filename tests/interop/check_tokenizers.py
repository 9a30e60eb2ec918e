#!/usr/bin/env python3
"""Compares our tokenizers with the libraries `tokenizers` and `sentencepiece`, id by id, on random lines of mixed scripts,
spaces, emoji and invalid UTF-8. Prints one line per tokenizer; exit code 1 where anything differs."""
import argparse
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import unicodedata

import sentencepiece
import tokenizers

WORDS = ("the cat sat on a mat hello world don't I'M we'LL they've it's O'Reilly naïve Äpfel Straße ſ 'ſ été Ünïcödé "
         "Привет мир Ελληνικά שלום مرحبا नमस्ते দুঃখ ไทย 你好世界 こんにちは カタカナ 한국어 ქართული ខ្មែរ 0 1 12 123 1234 12345 3.14 1e-9 ½ ² Ⅳ "
         "🚀 😶‍🌫️ 👩‍👩‍👧 🇩🇪 ✅ e\u0301 a\u0308\u0323 \u200d \u200b \u2060 \ufeff {}[]() <|x|> ''' \"\" --- ... !!! ?!. #include ::std __init__ "
         "\u2581 \u0120 ▁▁ <|eot_id|> <|begin_of_text|> <|endoftext|> <|end_of_text|> <s> </s> <unk> <0x41> http://a.b/c?d=e&f=1 x+=1; ﬁ ǅ K Å").split(" ")
SPACES = [" ", " ", " ", " ", "  ", "   ", "        ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u00a0", "\u2003", "\u3000",
          "\u2028", "\u180e", "\u0085", "\v", "\f", "\u200a", ""]
PLANES = [(0x20, 0x7F), (0x80, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE00), (0x1000, 0x1200), (0x1E00, 0x2000),
          (0x2000, 0x2C00), (0x3000, 0x3200), (0x4E00, 0x5000), (0xAC00, 0xAE00), (0xFB00, 0xFE00), (0x10300, 0x10400),
          (0x1D400, 0x1D800), (0x1F300, 0x1F700), (0x20000, 0x20100)]
BAD = [b"\xff", b"\x80", b"\xc0\x80", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98", b"\xf5\x80\x80\x80", b"\xf4\x90\x80\x80",
       b"\xc3", b"\xe0\x80\xaf"]


def assigned(code):
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


CODES = [c for low, high in PLANES for c in range(low, high) if assigned(c)]


def random_line(r):
    parts = []
    for _ in range(r.randint(1, 12)):
        kind = r.random()
        if kind < 0.5:
            parts.append(r.choice(WORDS).encode())
        elif kind < 0.7:
            parts.append("".join(chr(r.choice(CODES)) for _ in range(r.randint(1, 6))).encode())
        elif kind < 0.8:
            parts.append(bytes(r.choice(b"abcABC012 '.,-_\n\t") for _ in range(r.randint(1, 8))))
        elif kind < 0.86:
            parts.append(r.choice(BAD))
        elif kind < 0.9:
            parts.append(bytes(r.randrange(256) for _ in range(r.randint(1, 5))))
        elif kind < 0.93:
            parts.append((r.choice(WORDS) * r.randint(1, 20)).encode())
        parts.append("".join(r.choice(SPACES) for _ in range(r.randint(0, 3))).encode())
    return b"".join(parts)


def frame(lines):
    return b"".join(struct.pack("<I", len(line)) + line for line in lines)


def run(program, *args, lines):
    done = subprocess.run([program, *map(str, args)], input=frame(lines), stdout=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"{program} {' '.join(map(str, args))}: exit code {done.returncode}")
    return done.stdout


def our_ids(program, path, lines, *more):
    rows = run(program, "encode", path, *more, lines=lines).decode().split("\n")[:-1]
    return [[int(i) for i in row.split()] for row in rows]


def our_texts(program, path, lines):
    out, position = run(program, "decode", path, lines=lines), 0
    texts = []
    while position < len(out):
        (length,) = struct.unpack_from("<I", out, position)
        texts.append(out[position + 4:position + 4 + length])
        position += 4 + length
    return texts


def compare(name, lines, ours, theirs):
    different = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    print(f"{name:34} {len(lines)} lines, {sum(map(len, theirs))} ids or bytes, {len(different)} lines differ", flush=True)
    for i in different[:5]:
        print(f"  {lines[i]!r}\n    ours   {ours[i]}\n    theirs {theirs[i]}")
    return not different


def write_variants(data, folder):
    """What the published tokenizers do not use: every sort of added token, other pre-tokenizers."""
    paths = {}

    def write(name, tokenizer):
        paths[name] = folder / name.replace(" ", "_") / "tokenizer.json"
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        paths[name].write_text(json.dumps(tokenizer))

    def gpt2():
        tokenizer = json.loads((data / "gpt2.tokenizer.json").read_text())
        tokenizer["truncation"] = None
        return tokenizer

    added = gpt2()
    added["pre_tokenizer"]["add_prefix_space"] = True
    free = 50257
    for content, flags in {"cat": {"single_word": True}, "<|x|>": {"lstrip": True, "rstrip": True, "special": True},
                           "hello": {"normalized": True}, "12": {"rstrip": True}, "123": {"lstrip": True}}.items():
        token = added["model"]["vocab"].get(content, free)
        free += token == free
        added["added_tokens"].append({"id": token, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                                      "normalized": False, "special": False} | flags)
    write("gpt2 with added tokens", added)

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    for name, steps in {
            "words, digits": [{"type": "Split", "pattern": {"Regex": "\\w+|[^\\w\\s]+|\\s+"}, "behavior": "Isolated", "invert": False},
                              {"type": "Digits", "individual_digits": True}],
            "words only": [{"type": "Split", "pattern": {"Regex": "\\w+"}, "behavior": "Removed", "invert": True}],
            "split at string": [{"type": "Split", "pattern": {"String": "a"}, "behavior": "Removed", "invert": False},
                                {"type": "Digits", "individual_digits": False}],
            "lines": [{"type": "Split", "pattern": {"Regex": "^.|(?<=c)a|.$|\\d*"}, "behavior": "Isolated", "invert": False}]}.items():
        tokenizer = gpt2()
        tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*steps, byte_level]}
        write(name, tokenizer)
    for scheme in ("always", "first", "never"):
        for split in (True, False):
            tokenizer = json.loads((data / "llama2.tokenizer.json").read_text())
            tokenizer["normalizer"] = {"type": "Replace", "pattern": {"Regex": "o\\s"}, "content": "0"}
            tokenizer["pre_tokenizer"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": split}
            write(f"metaspace {scheme} {split}", tokenizer)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True, help="tokenize_lines")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the tokenizer that is trained here")
    parser.add_argument("--lines", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    data = pathlib.Path(os.environ["VKQAT_DATA"]) / "tokenizers"
    if not data.is_dir():
        sys.exit(f"{data}: not there; set VKQAT_DATA")
    r = random.Random(args.seed)
    lines = [random_line(r) for _ in range(args.lines)]
    texts = [line.decode("utf-8", errors="replace") for line in lines]
    good = True

    trained = args.work / "trained"
    shutil.rmtree(trained, ignore_errors=True)
    run(args.program, "train", trained, 2048, lines=lines[:3000])
    variants = write_variants(data, args.work / "variants")

    for name, path in ({"llama3.tokenizer.json": data / "llama3.tokenizer.json", "llama2.tokenizer.json": data / "llama2.tokenizer.json",
                       "gpt2.tokenizer.json": data / "gpt2.tokenizer.json",
                       "torchtitan_test.tokenizer.json": data / "torchtitan_test.tokenizer.json",
                       "trained here": trained / "tokenizer.json"} | variants).items():
        theirs = tokenizers.Tokenizer.from_file(str(path))
        theirs.no_truncation()
        config = path.with_name(path.name.replace("tokenizer.json", "tokenizer_config.json"))
        if config.exists():  # as transformers does
            theirs.add_special_tokens([t["content"] for t in json.loads(config.read_text())["added_tokens_decoder"].values()])
        for special in (True,) if name in variants else (False, True):
            theirs.encode_special_tokens = not special
            expected = [e.ids for e in theirs.encode_batch_fast(texts, add_special_tokens=False)]
            ours = our_ids(args.program, path, lines, *(["special"] if special else []))
            good &= compare(name + (", special tokens" if special else ""), lines, ours, expected)
    models = {"llama2.tokenizer.model": data / "llama2.tokenizer.model"}
    for kind, rule, prefix in (("bpe", "identity", True), ("unigram", "nmt_nfkc", True), ("bpe", "nfkc_cf", False)):
        path = args.work / f"{kind}_{rule}.model"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(" ".join(r.choices(WORDS, k=12)) for _ in range(3000)), model_writer=path.open("wb"), model_type=kind,
            vocab_size=1000, byte_fallback=True, normalization_rule_name=rule, add_dummy_prefix=prefix,
            hard_vocab_limit=False,
            remove_extra_whitespaces=rule != "identity", character_coverage=0.98, minloglevel=2)
        models[path.name] = path
    for name, path in models.items():
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
        expected = [theirs.encode(t) for t in texts]
        ours = our_ids(args.program, path, lines)
        if name.startswith("unigram"):  # of segmentations with equal scores, versions of the library take different ones
            score = lambda ids: sum(theirs.get_score(i) for i in ids)
            ties = [i for i in range(len(lines)) if ours[i] != expected[i] and sorted(ours[i]) == sorted(expected[i])
                    and abs(score(ours[i]) - score(expected[i])) < 1e-3]
            print(f"{name}: {len(ties)} lines with two segmentations of the same score")
            for i in ties:
                ours[i] = expected[i]
        good &= compare(name, lines, ours, expected)
        # Theirs makes U+FFFD of bytes that are no character, so only texts without are compared.
        decoded = [theirs.decode(ids).encode() for ids in expected]
        ours = our_texts(args.program, path, lines)
        whole = [i for i, text in enumerate(decoded) if b"\xef\xbf\xbd" not in text]
        good &= compare(name + ", decoded", [lines[i] for i in whole], [ours[i] for i in whole], [decoded[i] for i in whole])
    # Meta's file is the same tokenizer as the JSON.
    good &= compare("llama3.tokenizer.model", lines, our_ids(args.program, data / "llama3.tokenizer.model", lines),
                    our_ids(args.program, data / "llama3.tokenizer.json", lines))
    for name, path in {"llama3": data / "llama3.tokenizer.json", "gpt2": data / "gpt2.tokenizer.json", "trained here": trained}.items():
        good &= compare(f"{name}, decode(encode(x))", lines, our_texts(args.program, path, lines), [t.encode() for t in texts])
    print("all equal" if good else "DIFFERENT")
    return 0 if good else 1


sys.exit(main())
