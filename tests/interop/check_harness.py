#!/usr/bin/env python3
"""Compares `vkqat eval --tasks` with lm-evaluation-harness on the same model directories and rows: the log-likelihood of every
choice within 1e-3, whether greedy decoding writes it, written answers, and the figures, exactly. Prints one line per task; exit
code 1 where anything differs."""
import argparse
import csv
import importlib.metadata
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import datasets
import lm_eval
import lm_eval.tasks
import yaml
from lm_eval.models.huggingface import HFLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
TASKS = pathlib.Path(lm_eval.tasks.__file__).parent
TOLERANCE = 1e-3  # nats; of sums of up to some hundred, in float32
SUBJECT = "high_school_geography"
# Where the harness keeps each task.
PUBLISHED = {"hellaswag": "hellaswag/hellaswag.yaml", "winogrande": "winogrande/default.yaml", "piqa": "piqa/piqa.yaml",
             "boolq": "super_glue/boolq/default.yaml", "arc_easy": "arc/arc_easy.yaml", "arc_challenge": "arc/arc_challenge.yaml",
             "openbookqa": "openbookqa/openbookqa.yaml", "lambada": "lambada/lambada_openai.yaml", "gsm8k": "gsm8k/gsm8k.yaml",
             "mmlu_" + SUBJECT: f"mmlu/default/mmlu_{SUBJECT}.yaml"}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def lettered(texts, gold):
    letters = [chr(ord("A") + i) for i in range(len(texts))]
    return {"choices": {"text": texts, "label": letters}, "answerKey": letters[gold]}


def rows_of(data, task, count):
    """Rows with the field names of the Hugging Face data sets."""
    foundry = data / "eval" / f"llmfoundry_{task}.jsonl"
    if task == "hellaswag":
        return read(data / "eval" / "hellaswag_val_1000.jsonl")[:count]
    if task == "winogrande":
        rows = []
        for r in read(foundry)[:count]:
            a, b = r["context_options"]
            n = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
            n = a.rfind(" ", 0, n) + 1
            rows.append({"sentence": a[:n] + "_ " + r["continuation"], "option1": a[n:], "option2": b[n:], "answer": str(r["gold"] + 1)})
        return rows
    if task == "piqa":
        return [{"goal": r["query"].removeprefix("Question: ").removesuffix("\n"), "sol1": r["choices"][0], "sol2": r["choices"][1],
                 "label": r["gold"]} for r in read(foundry)[:count]]
    if task == "boolq":
        rows = []
        for r in read(foundry)[:count]:
            passage, question = r["query"].removeprefix("Passage: ").rsplit("\nQuestion: ", 1)
            rows.append({"passage": passage, "question": question.removesuffix("?"), "label": r["gold"]})
        return rows
    if task in ("arc_easy", "arc_challenge"):
        return [{"question": r["query"].removeprefix("Question: "), **lettered(r["choices"], r["gold"])} for r in read(foundry)[:count]]
    if task == "openbookqa":  # the same form of question, so rows of another task stand in for its own
        return [{"question_stem": r["query"].removeprefix("Question: "), **lettered(r["choices"], r["gold"])}
                for r in read(data / "eval" / "llmfoundry_arc_easy.jsonl")[-count:]]
    if task == "lambada":  # beginnings of stories, with odd spaces among them
        texts = [" ".join(r["text"].split()[:40 + i % 7]) for i, r in enumerate(read(data / "corpus" / "stories_valid.jsonl")[:count])]
        return [{"text": t if i % 5 else t.replace(" ", "  ", 3)} for i, t in enumerate(texts)]
    if task == "gsm8k":
        return [{"question": f"Tom has {i} red and {2 * i + 3} blue balls. How many balls has he?",
                 "answer": f"He has {i} + {2 * i + 3} = {3 * i + 3} balls.\n#### {3 * i + 3}"} for i in range(count // 4)]
    sys.exit(f"no rows for {task}")


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def harness_task(folder, task, files, **more):
    """The published task with its rows from local files."""
    config = {"include": str(TASKS / PUBLISHED[task]), "task": "local_" + task, "dataset_path": "json", "dataset_name": None,
              "dataset_kwargs": {"data_files": files}, **more}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{task}.yaml").write_text(yaml.safe_dump(config))


def make_tasks(data, work, count):
    """Files for both programs: [(task, what vkqat is given, worked examples)]."""
    tasks, rows = [], work / "rows"
    for task in ("hellaswag", "winogrande", "piqa", "boolq", "arc_easy", "arc_challenge", "openbookqa", "lambada"):
        path = write_rows(rows / f"{task}.jsonl", rows_of(data, task, count))
        harness_task(work / "tasks", task, {split: path for split in ("train", "validation", "test")})
        tasks.append((task, f"{task}={path}", 0))
    files = {}
    for split in ("dev", "test"):
        name = f"{split}/{SUBJECT}_{split}.csv"
        with (data / "eval" / "mmlu" / name).open(newline="") as f:
            all_rows = list(csv.DictReader(f))[:count]
        (work / "mmlu" / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "eval" / "mmlu" / name, work / "mmlu" / name)
        files[split] = write_rows(rows / f"mmlu_{split}.jsonl", [
            {"question": r["question"], "choices": [r[f"choice{i}"] for i in range(4)], "answer": int(r["answer"])} for r in all_rows])
    harness_task(work / "tasks", "mmlu_" + SUBJECT, files)
    tasks.append(("mmlu_" + SUBJECT, f"mmlu={work / 'mmlu'}", 5))
    path = write_rows(rows / "gsm8k.jsonl", rows_of(data, "gsm8k", count))
    harness_task(work / "tasks", "gsm8k", {"train": path, "test": path}, fewshot_config={"sampler": "first_n"})
    tasks.append(("gsm8k", f"gsm8k={path},{path}", 3))
    return tasks


def compare(task, ours, result, theirs):
    """One line of what differs between saved scores of ours and the harness's samples."""
    worst, wrong = 0.0, []
    seen = {}
    for sample in theirs:
        seen.setdefault(sample["doc_id"], sample)
    if sorted(seen) != list(range(len(ours))):
        return [f"{len(ours)} questions, {len(seen)} there"], worst
    for line in ours:
        sample = seen[line["question"]]
        if "text" in line:
            text = sample["resps"][0][0]
            if text != line["text"]:
                wrong.append(f"question {line['question']}: {line['text']!r}, there {text!r}")
            continue
        pairs = [r[0] for r in sample["resps"]] if isinstance(sample["resps"][0][0], (list, tuple)) else sample["resps"]
        likelihoods = [float(p[0]) for p in pairs]
        greedy = [str(p[1]) == "True" for p in pairs]
        if len(likelihoods) != len(line["log_likelihood"]):
            wrong.append(f"question {line['question']}: {len(line['log_likelihood'])} choices, there {len(likelihoods)}")
            continue
        difference = max(abs(a - b) for a, b in zip(likelihoods, line["log_likelihood"]))
        worst = max(worst, difference)
        if not difference < TOLERANCE or greedy != line["greedy"]:
            wrong.append(f"question {line['question']}: {line['log_likelihood']} {line['greedy']}, there {likelihoods} {greedy}")
    return wrong, worst


def figures(task, metrics, theirs):
    """Pairs of our and their value that must be equal, by name."""
    names = {"exact_match,strict-match": "exact_match,strict-match", "exact_match,flexible-extract": "exact_match,flexible-extract",
             "acc": "acc,none", "acc_norm": "acc_norm,none", "perplexity": "perplexity,none"}
    pairs = {}
    for ours, name in names.items():
        if ours in metrics and name in theirs:
            pairs[ours] = (metrics[ours], theirs[name])
            error = name.replace(",", "_stderr,")
            if ours != "perplexity" and isinstance(theirs.get(error), float):  # theirs of a perplexity is drawn at random
                pairs[ours + "_stderr"] = (metrics[ours + "_stderr"], theirs[error])
    return pairs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=pathlib.Path, help="in full precision, with tokenizer.json; by default one is made")
    parser.add_argument("--vkqat", required=True, help="the program")
    parser.add_argument("--cpu-vulkan", help="script that runs the program on the CPU: tools/cpu-vulkan")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for what is made here")
    parser.add_argument("--questions", type=int, default=100, help="of each task")
    args = parser.parse_args()
    data = pathlib.Path(os.environ["VKQAT_DATA"])
    if not (data / "eval").is_dir():
        sys.exit(f"{data / 'eval'}: not there; set VKQAT_DATA")
    shutil.rmtree(args.work, ignore_errors=True)
    args.work.mkdir(parents=True)
    os.environ["HF_HOME"] = str((args.work / "cache").resolve())
    os.environ["HF_HUB_OFFLINE"] = "1"

    def vkqat(*arguments):
        command = [*filter(None, (args.cpu_vulkan, args.vkqat)), *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr}")
        return done.stdout

    datasets.disable_progress_bars()
    print(f"lm_eval {importlib.metadata.version('lm_eval')}, transformers {importlib.metadata.version('transformers')}")
    models = args.models
    if not models:  # a short training on real stories, with rows long enough for worked examples
        made, corpus = args.work / "made", data / "corpus" / "stories_valid.jsonl"
        vkqat("tokenizer", "train", corpus, "--vocab-size", 1024, "--out", made / "tokenizer")
        vkqat("train", ROOT / "assets/configs/quickstart.toml", "--quantization.quantizer=none", "--training.steps=60",
              "--training.seq_len=64", "--training.local_batch_size=4", "--training.global_batch_size=4",
              f"--job.dump_folder={made / 'run'}", f"--model.tokenizer_path={made / 'tokenizer'}", f"--training.dataset={corpus}",
              "--model.num_hidden_layers=2", "--model.max_position_embeddings=2048")
        vkqat("export", made / "run", made / "model", "--dtype", "f32")
        models = [made / "model"]
    tasks, good = make_tasks(data, args.work, args.questions), True
    manager = lm_eval.tasks.TaskManager(include_path=str(args.work / "tasks"))
    for model in models:
        scores = args.work / "scores" / model.resolve().name
        harness = HFLM(pretrained=str(model.resolve()), dtype="float32", device="cpu", batch_size=8)
        for task, given, few_shot in tasks:
            result = json.loads(vkqat("eval", model, "--json", "--tasks", given, "--few-shot", few_shot, "--save", scores,
                                      "--limit", args.questions))["models"][0]["tasks"]
            result = next(r for r in result if r["task"] == task)
            lines = read(next(scores.glob(f"*/{task}.jsonl")))[1:]
            theirs = lm_eval.simple_evaluate(model=harness, tasks=["local_" + task], num_fewshot=few_shot, task_manager=manager,
                                             log_samples=True, bootstrap_iters=10)
            wrong, worst = compare(task, lines, result, theirs["samples"]["local_" + task])
            pairs = figures(task, result["metrics"], theirs["results"]["local_" + task])
            for name, (a, b) in pairs.items():
                if not abs(a - b) <= (1e-3 * abs(b) if name == "perplexity" else 1e-12):
                    wrong.append(f"{name} {a}, there {b}")
            if not pairs:
                wrong.append("no figure to compare")
            good &= not wrong
            shown = ", ".join(f"{name} {a:.4g}" for name, (a, b) in pairs.items() if not name.endswith("_stderr"))
            print(f"{model.name} {task:28} {len(lines):4} questions, largest difference {worst:.1e}; {shown}"
                  f"{': DIFFERENT' if wrong else ''}", flush=True)
            for line in wrong[:5]:
                print(f"  {line}")
    print("all equal" if good else "DIFFERENT")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
