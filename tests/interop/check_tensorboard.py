#!/usr/bin/env python3
"""Reads the event files of a training that was stopped and resumed with TensorBoard's own library, and compares every value with
metrics.jsonl. Prints one line per curve; exit code 1 where anything differs."""
import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = pathlib.Path(__file__).resolve().parents[2]
CURVES = {"loss/train": "loss", "optimizer/learning_rate": "learning_rate", "optimizer/gradient_norm": "gradient_norm",
          "speed/tokens_per_second": "tokens_per_second", "speed/memory_bytes": "memory_bytes", "loss/validation": "validation_loss"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu-vulkan", required=True)
    parser.add_argument("--vkqat", required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    args = parser.parse_args()
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)

    def vkqat(*command):
        command = [args.cpu_vulkan, args.vkqat, *map(str, command)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{command}: exit code {done.returncode}\n{done.stderr}")

    corpus, run = args.work / "corpus", args.work / "run"
    vkqat("sample-corpus", corpus)
    vkqat("tokenizer", "train", corpus / "train.txt", "--vocab-size", 512, "--out", args.work / "tokenizer")

    def train(steps, *more):
        vkqat("train", ROOT / "assets/configs/quickstart.toml", f"--job.dump_folder={run}",
              f"--model.tokenizer_path={args.work / 'tokenizer'}", f"--training.dataset={corpus / 'train.txt'}",
              "--model.num_hidden_layers=1", "--training.local_batch_size=2", "--training.global_batch_size=2",
              f"--training.steps={steps}", "--checkpoint.interval=10", "--checkpoint.keep_latest_k=0", "--metrics.log_freq=1", "--metrics.enable_tensorboard=true",
              "--validation.enable=true", f"--validation.dataset={corpus / 'valid.txt'}", "--validation.freq=5",
              "--validation.steps=2", *more)

    train(14)
    # As after a kill behind step 14: the checkpoint of step 14 is gone, so steps 11 to 14 are done again.
    shutil.rmtree(run / "checkpoint" / "step-00000014")
    train(20, "--resume")

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    failed = set(events.Tags()["scalars"]) != set(CURVES)
    if failed:
        print(f"tags: expected {sorted(CURVES)}, found {sorted(events.Tags()['scalars'])}")
    for tag, key in CURVES.items():
        expected = [(line["step"], line[key]) for line in lines if key in line and "skipped" not in line]
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        # Values are stored as float32.
        same = len(found) == len(expected) and all(
            a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-6) for a, b in zip(found, expected))
        failed |= not same
        print(f"{'same  ' if same else 'DIFFER'} {tag}: {len(found)} values" + ("" if same else f", expected {expected}, found {found}"))
    sys.exit(1 if failed else 0)


main()
