"""Answers per second: palate's `generate` against transformers' own, in turn and each in a process of its own.

    python benchmarks/generation.py              64 prompts × 4 samples, 128 tokens each

Every answer is decoded to its full length, so that both sides write equally many tokens. Plain `generate` gets what its
users give it: a model loaded in the precision itself, left padding, a batch of as many answers, `num_return_sequences`.
That both compute the same is checked by greedy answers in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from _measure import (
    Job,
    Report,
    child_job,
    located,
    model_and_source,
    palate_python,
    peak_bytes,
    positive,
    precision_option,
    results_option,
    run_child,
    say,
    spread,
    write_result,
)
from _products import DTYPES
from tables import generation_table
from transformers import AutoModelForCausalLM, GenerationConfig

from palate.data import load_records
from palate.models.cpu.allocator import keep_freed_memory
from palate.models.generation.decoding import Decoding
from palate.models.generation.local.generate import generate
from palate.models.loading.load import load_model, load_tokenizer
from palate.models.loading.resolve import resolve_name
from palate.models.precision import resolve as resolve_precision
from palate.records import PreferencePair

CPU = torch.device("cpu")
GREEDY_PROMPTS, GREEDY_TOKENS = 8, 32


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1].endswith(".json"):
        child()
        return 0
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as folder:
        result = compare(options, Path(folder))
    result = located(result)
    path = write_result(f"generation-{options.precision}", result, options.results)
    print(generation_table([result]))
    say(f"written: {path}")
    return 0 if all(result["checks"].values()) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Tokens per second of generation.")
    parser.add_argument("--prompts", type=positive, default=64)
    parser.add_argument("--samples", type=positive, default=4)
    parser.add_argument("--max-new-tokens", type=positive, default=128)
    parser.add_argument("--batch-size", type=positive, default=64, help="answers decoded at a time, on both sides")
    parser.add_argument("--longest-prompt", type=positive, default=256, help="prompts are cut to their last tokens")
    precision_option(parser)
    parser.add_argument("--rounds", type=positive, default=3)
    model_and_source(parser)
    results_option(parser)
    return parser.parse_args()


def compare(options: argparse.Namespace, folder: Path) -> Report:
    """Both sides in turn, then the greedy answers of both."""
    job: Job = {
        "do": "sample",
        "model": resolve_name(options.model),
        "prompts": prompt_ids(options),
        "samples": options.samples,
        "max_new_tokens": options.max_new_tokens,
        "batch_size": options.batch_size,
        "precision": options.precision,
        "temperature": 1.0,
    }
    runs: dict[str, list[Report]] = {"palate": [], "plain": []}
    for number in range(options.rounds):
        for side, reports in runs.items():
            reports.append(run_child(palate_python(), "generation.py", {**job, "side": side}, folder))
            say(f"round {number + 1}: {side} {reports[-1]['tokens'] / reports[-1]['seconds']:.0f} tokens/s")
    greedy = {
        **job,
        "samples": 1,
        "temperature": 0.0,
        "precision": "fp32",
        "prompts": job["prompts"][:GREEDY_PROMPTS],
        "max_new_tokens": GREEDY_TOKENS,
    }
    answers = [
        run_child(palate_python(), "generation.py", {**greedy, "side": side}, folder)["answers"] for side in runs
    ]
    expected = options.prompts * options.samples * options.max_new_tokens
    sides = {side: figures(reports) for side, reports in runs.items()}
    return {
        "benchmark": "generation",
        "settings": {
            name: value for name, value in vars(options).items() if name not in ("results", "source", "model")
        },
        "threads": runs["palate"][0]["threads"],
        **sides,
        "ratio": sides["palate"]["tokens_per_second"] / sides["plain"]["tokens_per_second"],
        "checks": {
            "greedy answers in float32 are equal": answers[0] == answers[1],
            "every answer has its full length": all(r["tokens"] == expected for side in runs.values() for r in side),
        },
    }


def figures(reports: Sequence[Report]) -> Report:
    seconds = spread([report["seconds"] for report in reports])
    return {
        "seconds": seconds,
        "tokens_per_second": reports[0]["tokens"] / seconds["median"],
        "peak_bytes": spread([report["peak_bytes"] for report in reports]),
        "runs": [{key: report[key] for key in ("seconds", "tokens", "peak_bytes")} for report in reports],
    }


def prompt_ids(options: argparse.Namespace) -> list[list[int]]:
    """Token ids of the file's first prompts, ready for an answer."""
    tokenizer = load_tokenizer(options.model)
    records = load_records(str(options.source), kind=PreferencePair, max_samples=options.prompts).records
    if len(records) < options.prompts:
        sys.exit(f"{options.source}: {len(records)} prompts, not {options.prompts}")
    texts = [
        tokenizer.apply_chat_template(
            [{"role": message.role, "content": message.content} for message in record.prompt],
            add_generation_prompt=True,
            tokenize=False,
        )
        for record in records
    ]
    return [tokenizer(text, add_special_tokens=False)["input_ids"][-options.longest_prompt :] for text in texts]


# ---- one side, in a process of its own


def child() -> None:
    job, report_file = child_job()
    answers, seconds = SIDES[job["side"]](job)
    report = {
        "seconds": seconds,
        "tokens": sum(map(len, answers)),
        "peak_bytes": peak_bytes(),
        "threads": torch.get_num_threads(),
        "answers": answers if not job["temperature"] else [],
    }
    report_file.write_text(json.dumps(report), encoding="utf-8")


def palate_answers(job: Job) -> tuple[list[list[int]], float]:
    keep_freed_memory()
    model = load_model(job["model"], device=CPU)
    prompts = [ids for ids in job["prompts"] for _ in range(job["samples"])]
    decoding = Decoding(max_new_tokens=job["max_new_tokens"], temperature=job["temperature"])
    precision = resolve_precision(job["precision"], CPU)
    begin = time.monotonic()
    answers = generate(model, prompts, decoding, stop_ids=(), precision=precision, batch_size=job["batch_size"])
    return answers, time.monotonic() - begin


def plain_answers(job: Job) -> tuple[list[list[int]], float]:
    """Prompts sorted by length, so that plain `generate` pads as little as it can."""
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=DTYPES[job["precision"]]).eval()
    # What comes with a model (a stop token, penalties) would end answers early or change what is sampled from.
    model.generation_config = GenerationConfig(pad_token_id=0)
    torch.manual_seed(0)
    sampling: dict[str, Any] = {"do_sample": False}
    if job["temperature"]:
        sampling = {"do_sample": True, "temperature": job["temperature"], "top_k": 0, "top_p": 1.0}
    order = sorted(range(len(job["prompts"])), key=lambda i: -len(job["prompts"][i]))
    answers: dict[int, list[list[int]]] = {}
    size = max(1, job["batch_size"] // job["samples"])
    begin = time.monotonic()
    for start in range(0, len(order), size):
        places = order[start : start + size]
        ids, mask = _left_padded([job["prompts"][i] for i in places])
        written = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=job["max_new_tokens"],
            num_return_sequences=job["samples"],
            **sampling,
        )[:, ids.shape[1] :].tolist()
        for number, place in enumerate(places):
            answers[place] = written[number * job["samples"] : (number + 1) * job["samples"]]
    seconds = time.monotonic() - begin
    return [answer for place in range(len(order)) for answer in answers[place]], seconds


def _left_padded(prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, prompts))
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


SIDES: dict[str, Callable[[Job], tuple[list[list[int]], float]]] = {"palate": palate_answers, "plain": plain_answers}

if __name__ == "__main__":
    sys.exit(main())
