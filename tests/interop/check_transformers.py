#!/usr/bin/env python3
"""Compares vkqat with PyTorch and transformers, in float32: the logits behind several prompts and the ids of texts, of models
that vkqat trained and exported, of the same models as transformers writes them again, and of the published stories260K.
Prints one line per comparison; exit code 1 where anything differs."""
import argparse
import json
import os
import pathlib
import random
import shlex
import shutil
import subprocess
import sys

import safetensors
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Of max |ours - theirs| / max |theirs|. Sums of float32 in another order measure 1e-6; with 20 steps of training behind it, a
# model whose rotary frequencies or one layer's queries are off by 1 % measures 2e-5 and more.
TOLERANCE = 1e-5
LENGTHS = (1, 2, 17, 64, 150)
TEXTS = ["Once upon a time, there was a little dog.", "", " ", "  two spaces, \t a tab\n\nand lines \n", "don't I'M we'LL 1234567 3.14 1e-9",
         "naïve Äpfel Straße e\u0301 Привет 你好 こんにちは 한국어 नमस्ते مرحبا", "🚀 👩‍👩‍👧 🇩🇪", "x+=1; ::std {}[]() --- ... !!! http://a.b/c?d=e",
         "<|end_of_text|> a <|begin_of_text|>b<|pad|>", "<|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>", "<|x|> <s>"]
# Trainings, with the tokenizer's and the export's options.
MODELS = {
    "plain": ([], [], ["--dtype", "f32"]),
    # the head tied, heads wider than hidden_size / heads, scaled rotary embedding
    "tied": (["--chat-template"], ["--model.tie_word_embeddings=true", "--model.head_dim=64", "--model.num_key_value_heads=4",
                                   "--model.rope_scaling=llama3", "--model.rope_theta=10000"], ["--dtype", "f32"]),
    "bf16": ([], ["--model.num_hidden_layers=1", "--model.num_key_value_heads=1"], ["--dtype", "bf16"]),
}


class Vkqat:
    def __init__(self, *command):
        self.command = command

    def __call__(self, *args):
        command = [*self.command, *map(str, args)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    def logits(self, model, ids):
        values = json.loads(self("logits", model, "--ids", ",".join(map(str, ids)), "--json"))["logits"]
        return torch.tensor(values, dtype=torch.float32)

    def ids(self, model, path, *options):
        return json.loads(self("tokenizer", "encode", model, "--file", path, "--json", *options))["ids"]


def make_model(vkqat, name, folder):
    """A short training on the sample corpus, exported: the directory of the model."""
    more_of_tokenizer, more_of_training, more_of_export = MODELS[name]
    shutil.rmtree(folder, ignore_errors=True)
    corpus = folder / "corpus" / "train.txt"
    vkqat("sample-corpus", folder / "corpus", "--bytes", 200000)
    vkqat("tokenizer", "train", corpus, "--vocab-size", 1024, "--out", folder / "tokenizer", *more_of_tokenizer)
    vkqat("train", ROOT / "assets/configs/quickstart.toml", "--quantization.quantizer=none", "--training.steps=20",
          "--training.local_batch_size=4", "--training.global_batch_size=4", f"--job.dump_folder={folder / 'run'}",
          f"--model.tokenizer_path={folder / 'tokenizer'}", f"--training.dataset={corpus}", *more_of_training)
    vkqat("export", folder / "run", folder / "model", *more_of_export)
    return folder / "model"


def load(directory):
    """The model in float32; every tensor of the file must be used, and none be missing (they would be random)."""
    model, report = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True,
                                                                      output_loading_info=True)
    wrong = {key: value for key, value in report.items() if value}
    if wrong:
        print(f"{directory}: transformers finds {wrong}")
    return model.eval(), not wrong


def last_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float()


def error_of(ours, theirs):
    if ours.shape != theirs.shape or not bool(torch.isfinite(ours).all() and torch.isfinite(theirs).all()):
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max())


def compare_logits(vkqat, name, directory, model, prompts):
    errors = [error_of(vkqat.logits(directory, ids), last_logits(model, ids)) for ids in prompts]
    good = max(errors) < TOLERANCE
    print(f"{name + ', logits':34} {len(prompts)} prompts of {min(map(len, prompts))} to {max(map(len, prompts))} ids, "
          f"largest relative error {max(errors):.2g}{'' if good else ': DIFFERENT'}", flush=True)
    if not good:
        print(f"  per prompt: {[f'{e:.2g}' for e in errors]}")
    return good


def compare_ids(vkqat, name, directory, tokenizer, work):
    """With and without the start token; special tokens in the text as such, and as mere text."""
    count, different, path = 0, [], work / "text.txt"
    for text in TEXTS:
        path.write_bytes(text.encode())
        for start in (True, False):
            for special in (True, False):
                theirs = tokenizer(text, add_special_tokens=start, split_special_tokens=not special)["input_ids"]
                ours = vkqat.ids(directory, path, *([] if start else ["--no-start"]), *(["--special"] if special else []))
                count += len(theirs)
                if ours != theirs:
                    different.append(f"  {text!r}, start {start}, special {special}\n    ours   {ours}\n    theirs {theirs}")
    print(f"{name + ', ids':34} {len(TEXTS)} texts, 4 ways each, {count} ids, {len(different)} differ", flush=True)
    print("\n".join(different), end="\n" if different else "")
    return not different


def prompts_of(r, vocabulary, tokenizer=None):
    prompts = [[r.randrange(vocabulary) for _ in range(length)] for length in LENGTHS]
    return prompts + ([tokenizer(text)["input_ids"] for text in TEXTS[:1] + TEXTS[4:6]] if tokenizer else [])


def compare_model(vkqat, r, name, directory, work):
    """A directory of vkqat, and the same as transformers writes it (for which it has other names and files)."""
    model, good = load(directory)
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
    prompts = prompts_of(r, model.config.vocab_size, tokenizer)
    good &= compare_logits(vkqat, name, directory, model, prompts)
    good &= compare_ids(vkqat, name, directory, tokenizer, work)
    again = work / "written_by_transformers" / name
    shutil.rmtree(again, ignore_errors=True)
    model.save_pretrained(again)
    tokenizer.save_pretrained(again)
    good &= compare_logits(vkqat, name + ", written again", again, model, prompts)
    good &= compare_ids(vkqat, name + ", written again", again, tokenizer, work)
    return good


def compare_stories(vkqat, r, directory):
    model, good = load(directory)
    expected = json.loads((directory / "expected.json").read_text())
    prompts = [expected["prompt_ids"], *prompts_of(r, model.config.vocab_size)]
    good &= compare_logits(vkqat, "stories260K", directory, model, prompts)
    error = error_of(last_logits(model, expected["prompt_ids"]), torch.tensor(expected["last_logits"]))
    print(f"{'stories260K, expected.json':34} relative error of transformers {error:.2g}", flush=True)
    return good and error < TOLERANCE


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=pathlib.Path, help="exported in full precision; by default three are made")
    parser.add_argument("--vkqat", required=True, help="the program")
    parser.add_argument("--cpu-vulkan", help="script that runs the program on the CPU: tools/cpu-vulkan")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for what is made here")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    stories = pathlib.Path(os.environ["VKQAT_DATA"]) / "stories260K"
    if not stories.is_dir():
        sys.exit(f"{stories}: not there; set VKQAT_DATA")
    args.work.mkdir(parents=True, exist_ok=True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, safetensors {safetensors.__version__}")
    vkqat, r, good = Vkqat(*filter(None, (args.cpu_vulkan, args.vkqat))), random.Random(args.seed), True
    for name, path in {str(p): p for p in args.models}.items() if args.models else ((n, None) for n in MODELS):
        directory = path or make_model(vkqat, name, args.work / "made" / name)
        good &= compare_model(vkqat, r, directory.resolve().name if path else name, directory, args.work)
    good &= compare_stories(vkqat, r, stories)
    print("all equal" if good else "DIFFERENT")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
