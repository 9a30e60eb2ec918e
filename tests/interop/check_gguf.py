#!/usr/bin/env python3
"""Reads what PyPI's `gguf` writes: random Llamas in every type that vkqat reads, whose logits must be those of the same weights in a
Hugging Face directory, and vocabularies of byte pairs, whose ids must be those of `tokenizers`. Prints one line per comparison; exit
code 1 where anything differs."""
import argparse
import json
import math
import os
import pathlib
import shlex
import shutil
import struct
import subprocess
import sys

import gguf
import numpy
import safetensors.numpy
import tokenizers

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, LAYERS, VOCABULARY = 256, 8, 2, 32, 512, 2, 300
THETA = 500000.0
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
# Of max |a - b| / max |b|: the same f16 weights, the same arithmetic.
TOLERANCE = 1e-6
NAMES = {"self_attn.q_proj": ("attn_q", HEADS * HEAD_DIM, HIDDEN), "self_attn.k_proj": ("attn_k", KV_HEADS * HEAD_DIM, HIDDEN),
         "self_attn.v_proj": ("attn_v", KV_HEADS * HEAD_DIM, HIDDEN), "self_attn.o_proj": ("attn_output", HIDDEN, HEADS * HEAD_DIM),
         "mlp.gate_proj": ("ffn_gate", FFN, HIDDEN), "mlp.up_proj": ("ffn_up", FFN, HIDDEN), "mlp.down_proj": ("ffn_down", HIDDEN, FFN)}
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PRETOKENIZERS = {"gpt-2": [GPT2], "smollm": [r"\p{N}", GPT2], "default": [r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]}


def to_interleaved(w, heads):
    """What llama.cpp's converter does to q and k."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def to_halves(w, heads):
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def rope_factors():
    factors = []
    for i in range(HEAD_DIM // 2):
        wavelength = 2 * math.pi * THETA ** (2 * i / HEAD_DIM)
        original, low, high, factor = 8192, 1.0, 4.0, 8.0
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return numpy.array(factors, dtype=numpy.float32)


def blocks(r, kind, rows, columns):
    """Random stored data of a type, which `gguf` itself may not be able to quantize to."""
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    data = r.integers(0, 256, (rows, columns // per_block, size), dtype=numpy.uint8)
    scale = numpy.frombuffer(numpy.float16(r.uniform(1e-3, 2e-3, (rows, columns // per_block, 1))).tobytes(), dtype=numpy.uint8)
    scale = scale.reshape(rows, columns // per_block, 2)
    at = size - 2 if kind == gguf.GGMLQuantizationType.Q6_K else 0
    data[:, :, at:at + 2] = scale
    if kind == gguf.GGMLQuantizationType.Q4_1:
        data[:, :, 2:4] = scale
    if kind == gguf.GGMLQuantizationType.Q6_K:
        data[:, :, 192:208] %= 5
    return data.reshape(rows, -1)


def make_model(folder, kind, scaled, r):
    """FOLDER/a.gguf and FOLDER/model, a Hugging Face directory with the same weights."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    writer = gguf.GGUFWriter(str(folder / "a.gguf"), "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_vocab_size(VOCABULARY)
    plain = {gguf.GGMLQuantizationType.F32: numpy.float32, gguf.GGMLQuantizationType.F16: numpy.float16}
    tensors = {}

    def matrix(name, theirs, rows, columns, heads=0):
        if kind in plain or kind == gguf.GGMLQuantizationType.BF16:
            w = r.normal(0, 0.05, (rows, columns)).astype(numpy.float32)
            stored = w.astype(plain[kind]) if kind in plain else gguf.quants.quantize(w, kind)
        elif kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):
            stored = gguf.quants.quantize(r.normal(0, 0.05, (rows, columns)).astype(numpy.float32), kind)
        else:
            stored = blocks(r, kind, rows, columns)
        w = gguf.quants.dequantize(stored, kind) if kind not in plain else stored.astype(numpy.float32)
        # f16 and bf16 values are themselves in float32; quantized ones are read as f16
        tensors[name] = w if kind in plain or kind == gguf.GGMLQuantizationType.BF16 else w.astype(numpy.float16).astype(numpy.float32)
        writer.add_tensor(theirs, to_interleaved(stored, heads) if heads else stored, raw_dtype=kind)

    def norm(name, theirs):
        tensors[name] = r.uniform(0.5, 1.5, HIDDEN).astype(numpy.float32)
        writer.add_tensor(theirs, tensors[name])

    matrix("model.embed_tokens.weight", "token_embd.weight", VOCABULARY, HIDDEN)
    norm("model.norm.weight", "output_norm.weight")
    matrix("lm_head.weight", "output.weight", VOCABULARY, HIDDEN)
    if scaled:
        writer.add_tensor("rope_freqs.weight", rope_factors())
    for i in range(LAYERS):
        norm(f"model.layers.{i}.input_layernorm.weight", f"blk.{i}.attn_norm.weight")
        norm(f"model.layers.{i}.post_attention_layernorm.weight", f"blk.{i}.ffn_norm.weight")
        for name, (theirs, rows, columns) in NAMES.items():
            heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(theirs, 0)
            matrix(f"model.layers.{i}.{name}.weight", f"blk.{i}.{theirs}.weight", rows, columns, heads)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert (to_halves(to_interleaved(tensors["lm_head.weight"], 2), 2) == tensors["lm_head.weight"]).all()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FFN,
              "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
              "vocab_size": VOCABULARY, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": THETA,
              "rope_scaling": SCALING if scaled else None, "tie_word_embeddings": False, "torch_dtype": "float32"}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file({k: numpy.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model" / "model.safetensors",
                                {"format": "pt"})


def logits(vkqat, model, ids):
    command = [*vkqat, "logits", str(model), "--ids", ",".join(map(str, ids)), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return numpy.array(json.loads(done.stdout)["logits"])


def check_models(vkqat, work):
    good = True
    for number, name in enumerate(("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q6_K")):
        r = numpy.random.default_rng(number)
        folder = work / name
        make_model(folder, gguf.GGMLQuantizationType[name], number % 2 == 1, r)
        worst = 0.0
        for length in (1, 2, 33):
            ids = r.integers(0, VOCABULARY, length).tolist()
            ours, expected = logits(vkqat, folder / "a.gguf", ids), logits(vkqat, folder / "model", ids)
            worst = max(worst, float(abs(ours - expected).max() / abs(expected).max()))
        good &= worst <= TOLERANCE
        print(f"{name:5} logits differ by {worst:.1e} {'' if worst <= TOLERANCE else 'DIFFERENT'}", flush=True)
    return good


def write_vocabulary(path, source, pre):
    writer = gguf.GGUFWriter(str(path), "llama")
    tokens = {i: t for t, i in source["model"]["vocab"].items()} | {t["id"]: t["content"] for t in source["added_tokens"]}
    special = {t["id"] for t in source["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([tokens[i] for i in range(len(tokens))])
    writer.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in source["model"]["merges"]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def check_vocabularies(program, data, work):
    good = True
    text = (data / "text" / "wikitext2.wiki.test.raw").read_text(encoding="utf-8").split("\n")[:3000]
    text += (data / "tokenizers" / "ggml-vocab-gpt-2.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    text += ["1 12 123 1234 12345 a1b22c333", "x+=1; a|b ~^$ <<=>>", "don't we'LL", "  two   spaces \t\n\n x", "你好世界 नमस्ते 🚀", "½²Ⅳ٣٤٥٦"]
    for name, pre in (("gpt2", "gpt-2"), ("gpt2", "smollm"), ("gpt2", "default"), ("llama3", "llama-bpe")):
        source = json.loads((data / "tokenizers" / f"{name}.tokenizer.json").read_text())
        path = work / f"{name}-{pre}.gguf"
        write_vocabulary(path, source, pre)
        if pre in PRETOKENIZERS:
            steps = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in PRETOKENIZERS[pre]]
            byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
            source["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*steps, byte_level]}
        source["truncation"] = None
        theirs = [e.ids for e in tokenizers.Tokenizer.from_str(json.dumps(source)).encode_batch(text, add_special_tokens=False)]
        framed = b"".join(struct.pack("<I", len(line.encode())) + line.encode() for line in text)
        done = subprocess.run([program, "encode", str(path), "special"], input=framed, stdout=subprocess.PIPE, check=True)
        ours = [[int(i) for i in row.split()] for row in done.stdout.decode().split("\n")[:-1]]
        different = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        print(f"{name} {pre}: {len(text)} lines, {sum(map(len, theirs))} ids, {len(different)} lines differ", flush=True)
        for i in different[:3]:
            print(f"  {text[i]!r}\n    ours   {ours[i]}\n    theirs {theirs[i]}")
        good &= not different
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu-vulkan", required=True, help="tools/cpu-vulkan")
    parser.add_argument("--vkqat", required=True)
    parser.add_argument("--program", required=True, help="tokenize_lines")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    args = parser.parse_args()
    vkqat = [args.vkqat] if os.environ.get("VKQAT_NATIVE_VULKAN") == "1" else [args.cpu_vulkan, args.vkqat]
    args.work.mkdir(parents=True, exist_ok=True)
    good = check_models(vkqat, args.work)
    good &= check_vocabularies(args.program, pathlib.Path(os.environ["VKQAT_DATA"]), args.work)
    print("all equal" if good else "DIFFERENT")
    return 0 if good else 1


sys.exit(main())
