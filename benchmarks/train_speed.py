"""palate and TRL in turn on the same model, pairs, order, schedule and optimiser: speed, memory, and equal losses.

    python benchmarks/train_speed.py                               full fine-tuning, one epoch
    python benchmarks/train_speed.py --mode lora                   rank 16 on all linear layers
    python benchmarks/train_speed.py --mode last --epochs 3        the last 5 layers and an untied head
    python benchmarks/train_speed.py --prompt-ratio 3              long prompts, three times each answer
    python benchmarks/train_speed.py --precision fp32 --rounds 1   losses equal to 1e-4
    python benchmarks/train_speed.py --warm-store                  palate with reference values of an earlier run

Both sides run A B A B, each run in a process and an environment of its own. Timed is the training loop; palate's time
has its pass over the reference in it, TRL's loop computes its reference step by step. Imports and loading are reported
beside it. The exit code is 1 where a check failed: other token ids, rows, parameters or losses.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from _measure import (
    Job,
    Report,
    above_zero,
    located,
    model_and_source,
    palate_python,
    positive,
    precision_option,
    results_option,
    run_child,
    say,
    spread,
    trl_python,
    write_result,
)
from tables import train_speed_table

LAST_LAYERS = 5
LORA_RANK = 16
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
# Rounding to bf16 moves a pair's margin by about half a nat in either forward, whatever the learning rate.
# At β 0.1 that is as much as the tolerance of a step of four pairs; at a fifth of it, it stays below.
BETA = {"fp32": 0.1, "bf16": 0.02}
# Mean log-probabilities of a step's answers: tens or hundreds of nats that differ from row to row, so that equal ones
# show that the same rows met in the step.
LOGPS_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-2}
# Where both sides' weights went from where they started: least cosine of the two changes. Adam's first steps are about
# the sign of a gradient, which rounding turns where it is near 0; a side that does not train the same scores 0.
SAME_WAY = {"fp32": 0.99, "bf16": 0.95}
# In fp32 large enough that losses move far within a few steps: equal losses that all stay at log 2 would prove little.
# In bf16 a weight that moves is rounded anew, and that noise alone moves losses apart; rates are those of real runs,
# losses hardly move, and it is the weights that show that both sides trained alike.
LEARNING_RATE = {
    "fp32": {"full": 5e-6, "lora": 2e-4, "last": 2e-5},
    "bf16": {"full": 5e-7, "lora": 2e-5, "last": 2e-6},
}


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as folder:
        result = located(compare(options, Path(folder)))
    name = f"train_speed-{options.mode}-{options.epochs}-{label(options)}-{options.precision}"
    path = write_result(name, result, options.results)
    print(train_speed_table([result]))
    print(losses(result))
    say(f"written: {path}")
    failed = [name for name, passed in result["checks"].items() if not passed]
    for check in failed:
        say(f"check failed: {check}")
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Training speed and memory, palate and TRL in turn.")
    parser.add_argument("--mode", choices=["full", "lora", "last"], default="full")
    parser.add_argument("--epochs", type=positive, default=1)
    precision_option(parser)
    parser.add_argument("--prompt-ratio", type=float, default=0.0, help="prompt tokens per token of the longer answer")
    parser.add_argument("--warm-store", action="store_true", help="palate finds the reference values of an earlier run")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--pairs", type=positive, default=16)
    parser.add_argument("--batch", type=positive, default=4, help="pairs of an optimiser step")
    parser.add_argument("--cutoff-len", type=positive, default=512)
    parser.add_argument("--learning-rate", type=above_zero)
    parser.add_argument("--beta", type=above_zero, help="0.1 in fp32, 0.02 in bf16, whose rounding is noise")
    model_and_source(parser)
    results_option(parser)
    options = parser.parse_args()
    options.learning_rate = options.learning_rate or LEARNING_RATE[options.precision][options.mode]
    options.beta = options.beta or BETA[options.precision]
    trl_python()  # says at once that it is missing
    return options


def label(options: argparse.Namespace) -> str:
    """Which texts and which store, in a file's name."""
    texts = f"prompt{options.prompt_ratio:g}" if options.prompt_ratio else "short"
    return f"{texts}-warm" if options.warm_store else texts


def compare(options: argparse.Namespace, folder: Path) -> Report:
    """Everything that one comparison measures and checks."""
    pairs = folder / "pairs.jsonl"
    untied = str(folder / "untied") if options.mode == "last" else ""
    made = run_child(
        palate_python(),
        "_palate_child.py",
        {
            "do": "make_pairs",
            "model": options.model,
            "source": str(options.source),
            "rows": options.pairs,
            "cutoff_len": options.cutoff_len,
            "prompt_ratio": options.prompt_ratio,
            "pairs": str(pairs),
            "untied": untied,
        },
        folder,
    )
    config = palate_config(options, made["model"], pairs)
    start = str(folder / "start.safetensors") if options.mode == "lora" else ""
    described = run_child(
        palate_python(),
        "_palate_child.py",
        {"do": "describe", "start": start, "config": {**config, "output_dir": str(folder / "described")}},
        folder,
        {"PALATE_REFERENCES": str(folder / "references-described")},
    )
    peer = trl_job(options, described, made["model"], start, folder)
    ours, theirs = measure(options, config, peer, folder)
    ways = {"do": "compare_ways", "start": start or made["model"], "ours": str(folder / "run-0"), "theirs": peer["end"]}
    way = run_child(palate_python(), "_palate_child.py", ways, folder)
    return {
        "benchmark": "train_speed",
        "settings": settings(options),
        "texts": texts(described, options),
        "attention": described["attention"],
        "trainable_parameters": described["trainable_parameters"],
        "versions": {"palate": ours[0]["versions"], "trl": theirs[0]["versions"]},
        "threads": {"palate": ours[0]["threads"], "trl": theirs[0]["threads"]},
        **figures(ours, theirs, described, options),
        "steps": [{"palate": a, "trl": b} for a, b in zip(ours[0]["steps"], theirs[0]["steps"])],
        "cosine_of_changes": way["cosine"],
        "checks": checks(ours, theirs, described, way, options),
    }


def palate_config(options: argparse.Namespace, model: str, pairs: Path) -> dict[str, Any]:
    """The run as a user would write it."""
    tunings: dict[str, dict[str, Any]] = {
        "full": {"finetuning_type": "full"},
        "lora": {"finetuning_type": "lora", "lora_rank": LORA_RANK, "lora_alpha": 2 * LORA_RANK},
        "last": {
            "finetuning_type": "freeze",
            "freeze_trainable_layers": LAST_LAYERS,
            "freeze_extra_modules": ["lm_head"],
        },
    }
    return {
        "stage": "dpo",
        "model_name_or_path": model,
        "dataset": str(pairs),
        "cutoff_len": options.cutoff_len,
        "precision": options.precision,
        "per_device_train_batch_size": options.batch,
        "num_train_epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "pref_beta": options.beta,
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "sample_prompts": 0,
        **tunings[options.mode],
    }


def trl_job(options: argparse.Namespace, described: Report, model: str, start: str, folder: Path) -> Job:
    """The same run for TRL: same files, ids, order, names and numbers."""
    return {
        "do": "train",
        "model": model,
        "folder": str(folder / "trl"),
        "rows": described["rows"],
        "orders": described["orders"],
        "trainable": described["trainable"] if options.mode == "last" else None,
        "lora_rank": LORA_RANK if options.mode == "lora" else 0,
        "start": start,
        "precision": options.precision,
        "cutoff_len": options.cutoff_len,
        "batch": options.batch,
        "epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "beta": options.beta,
        "seed": 42,
        "end": str(folder / "trl-end.safetensors"),
    }


def measure(
    options: argparse.Namespace, config: dict[str, Any], peer: Job, folder: Path
) -> tuple[list[Report], list[Report]]:
    """Both sides in turn. Without `--warm-store` no run of palate finds what another one stored."""
    ours: list[Report] = []
    theirs: list[Report] = []

    def palate(number: int) -> Report:
        store = "references-shared" if options.warm_store else f"references-{number}"
        return run_child(
            palate_python(),
            "_palate_child.py",
            {"do": "train", "config": {**config, "output_dir": str(folder / f"run-{number}")}},
            folder,
            {"PALATE_REFERENCES": str(folder / store)},
        )

    if options.warm_store:
        say("an earlier run of palate fills the store")
        palate(-1)
    for number in range(options.rounds):
        ours.append(palate(number))
        say(f"round {number + 1}: palate {ours[-1]['seconds']:.1f} s, {ours[-1]['peak_bytes'] / 1e9:.2f} GB")
        theirs.append(run_child(trl_python(), "_trl_child.py", peer, folder))
        say(f"round {number + 1}: TRL    {theirs[-1]['seconds']:.1f} s, {theirs[-1]['peak_bytes'] / 1e9:.2f} GB")
    return ours, theirs


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options that a reader of the table needs."""
    chosen = {name: value for name, value in vars(options).items() if name not in ("results", "source", "model")}
    return {**chosen, "model": Path(options.model).name, "source": options.source.name}


def texts(described: Report, options: argparse.Namespace) -> dict[str, Any]:
    """How many tokens the pairs have. Useful ones: each prompt once, its two answers, in every epoch."""
    rows = described["rows"]
    prompts = sum(len(row["prompt"]) for row in rows)
    answers = sum(len(ids) for row in rows for ids in row["completions"])
    return {
        "pairs": len(rows),
        "prompt_tokens": prompts,
        "trained_tokens": answers,
        "useful_tokens": (prompts + answers) * options.epochs,
        "longest_row": max(len(row["prompt"]) + len(ids) for row in rows for ids in row["completions"]),
    }


def figures(ours: list[Report], theirs: list[Report], described: Report, options: argparse.Namespace) -> Report:
    """Rates, memory and their ratios, from medians over rounds."""
    pairs = len(described["rows"]) * options.epochs
    tokens = texts(described, options)["useful_tokens"]
    sides: Report = {}
    for name, runs in (("palate", ours), ("trl", theirs)):
        seconds = spread([run["seconds"] for run in runs])
        sides[name] = {
            "seconds": seconds,
            "pairs_per_second": pairs / seconds["median"],
            "useful_tokens_per_second": tokens / seconds["median"],
            "peak_bytes": spread([run["peak_bytes"] for run in runs]),
            "outside_seconds": spread([run["wall_seconds"] - run["seconds"] for run in runs]),
            "runs": [{key: run[key] for key in ("seconds", "peak_bytes", "wall_seconds")} for run in runs],
        }
    for side, run in zip(sides["palate"]["runs"], ours):
        side["timings"] = run["timings"]
    return {
        **sides,
        "ratios": {
            "pairs_per_second": sides["palate"]["pairs_per_second"] / sides["trl"]["pairs_per_second"],
            "peak_memory": sides["palate"]["peak_bytes"]["median"] / sides["trl"]["peak_bytes"]["median"],
        },
    }


def checks(
    ours: list[Report], theirs: list[Report], described: Report, way: Report, options: argparse.Namespace
) -> dict[str, bool]:
    """What must hold for the comparison to mean anything."""
    steps = [(a, b) for mine, other in zip(ours, theirs) for a, b in zip(mine["steps"], other["steps"])]
    expected = -(-len(described["rows"]) // options.batch) * options.epochs
    tolerance, logps = TOLERANCE[options.precision], LOGPS_TOLERANCE[options.precision]
    same = SAME_WAY[options.precision]
    return {
        "every pair is trained on": len(described["rows"]) == options.pairs,
        "token ids are equal": all(run["rows"] == described["rows"] for run in theirs),
        "every row fits cutoff_len": texts(described, options)["longest_row"] <= options.cutoff_len,
        "rows come in the same order": all(run["orders"] == described["orders"] for run in theirs),
        "trainable parameters have the same names": all(run["trainable"] == described["trainable"] for run in theirs),
        "every run trains what was described": all(
            run["trainable_parameters"] == described["trainable_parameters"]
            and run["identity"] == described["identity"]
            and run["groups"] == len(described["rows"])
            for run in ours
        ),
        "both took every step": all(len(run["steps"]) == expected for run in [*ours, *theirs]),
        f"losses of every step are equal to {tolerance:g}": all(
            abs(a["loss"] - b["loss"]) <= tolerance for a, b in steps
        ),
        f"log-probabilities of every step are equal to {logps:g} of their size": all(
            abs(a[name] - b[name]) <= logps * abs(b[name])
            for a, b in steps
            for name in ("logps/chosen", "logps/rejected")
        ),
        f"weights moved the same way, to a cosine of {same:g}": way["tensors"] > 0 and way["cosine"] >= same,
        **moved(steps, options.precision),
    }


def moved(steps: list[tuple[Report, Report]], precision: str) -> dict[str, bool]:
    """In fp32: whether TRL's losses left the first one by so much that equal ones say something."""
    if precision != "fp32":
        return {}
    first = steps[0][1]["loss"]
    return {"losses moved": any(abs(b["loss"] - first) > 10 * TOLERANCE[precision] for _, b in steps)}


def losses(result: Report) -> str:
    """The first round's losses, step by step."""
    lines = ["step     palate        TRL   difference"]
    for number, step in enumerate(result["steps"], start=1):
        a, b = step["palate"]["loss"], step["trl"]["loss"]
        lines.append(f"{number:4}  {a:9.6f}  {b:9.6f}   {a - b:+.1e}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
