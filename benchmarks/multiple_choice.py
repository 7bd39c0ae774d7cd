"""TruthfulQA with all answers of a question in one pass, beside one forward of transformers for each answer.

    python benchmarks/multiple_choice.py --data mc_task.json --precision fp32
    python benchmarks/multiple_choice.py --data mc_task.json --questions 40 --rounds 3

Both sides score the same token ids in one process, in turn. Timed is scoring only, not loading and tokenising.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from _measure import located, positive, precision_option, results_option, say, write_result
from _products import DTYPES
from transformers import AutoModelForCausalLM, PreTrainedModel

from palate.evaluation.benchmarks.encode import plain_groups
from palate.evaluation.benchmarks.source import read_file
from palate.evaluation.benchmarks.suite.table import find_benchmark
from palate.evaluation.subject import Subject, model_spec
from palate.models.loading.resolve import resolve_name
from palate.models.precision import resolve
from palate.text.groups import EncodedGroup

CPU = torch.device("cpu")
LIMIT = 4096
TOLERANCE = {"fp32": 1e-4}
"""Largest difference of a Σ log-probability relative to its size, by precision; others are reported only."""


def main() -> int:
    options = parse()
    precision = resolve(options.precision, CPU)
    subject = Subject(model_spec(options.model), precision, CPU)
    plain = AutoModelForCausalLM.from_pretrained(resolve_name(options.model), dtype=DTYPES[precision.name]).eval()
    groups = questions(options, subject)
    seconds: dict[str, list[float]] = {"palate": [], "one forward per answer": []}
    for number in range(options.rounds):
        begin = time.perf_counter()
        shared = [total for sums, _ in subject.score(groups) for total in sums]
        middle = time.perf_counter()
        single = one_by_one(plain, groups)
        end = time.perf_counter()
        seconds["palate"].append(middle - begin)
        seconds["one forward per answer"].append(end - middle)
        say(f"round {number + 1}: {middle - begin:.1f} s and {end - middle:.1f} s")
    difference = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(shared, single, strict=True))
    ratio = statistics.median(seconds["one forward per answer"]) / statistics.median(seconds["palate"])
    result = {
        "benchmark": "multiple_choice",
        "settings": {"questions": options.questions, "rounds": options.rounds, "precision": precision.name},
        "answers": len(single),
        "seconds": seconds,
        "ratio": ratio,
        "largest_relative_difference": difference,
    }
    path = write_result(f"multiple_choice-{precision.name}", located(result), options.results)
    print(f"{len(groups)} questions, {len(single)} answers, {precision.name}: {ratio:.1f} times as fast")
    print(f"largest relative difference of Σ log π: {difference:.1e}")
    say(f"written: {path}")
    return 0 if difference <= TOLERANCE.get(precision.name, float("inf")) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Speed of multiple choice with one shared prompt.")
    parser.add_argument("--data", type=Path, required=True, help="mc_task.json of TruthfulQA")
    parser.add_argument("--questions", type=positive, default=24)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    precision_option(parser)
    parser.add_argument("--rounds", type=positive, default=3)
    results_option(parser)
    return parser.parse_args()


def questions(options: argparse.Namespace, subject: Subject) -> list[EncodedGroup]:
    benchmark = find_benchmark("truthfulqa")
    items = benchmark.read([read_file(options.data)])
    chosen = random.Random(0).sample(items, options.questions)
    found = plain_groups(chosen, subject.template, LIMIT, separator=benchmark.separator)
    return [group for group in found if isinstance(group, EncodedGroup)]


@torch.no_grad()
def one_by_one(model: PreTrainedModel, groups: Sequence[EncodedGroup]) -> list[float]:
    """Σ log-probability of each answer, from a forward of its own over prompt and answer."""
    found = []
    for group in groups:
        for completion in group.completions:
            answer = torch.tensor(completion.ids, dtype=torch.long)
            row = torch.cat([torch.tensor(group.prompt_ids, dtype=torch.long), answer])
            logits = model(row[None], use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1].float()
            logps = logits.log_softmax(-1).gather(-1, answer[:, None])[:, 0]
            found.append(float(logps[torch.tensor(completion.trained)].sum()))
    return found


if __name__ == "__main__":
    sys.exit(main())
