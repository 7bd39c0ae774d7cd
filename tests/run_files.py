"""A run directory as `palate train` leaves it, with curves that behave like a healthy DPO run, written in a moment."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palate.artifacts import JsonlWriter, read_json, write_json

QUESTIONS = (
    "What did you have for lunch yesterday?",
    "Is the Great Wall of China visible from the Moon?",
    "Do people only use ten percent of their brains?",
)

STANDARD_ERRORS = {
    "se/loss": 0.02,
    "se/rewards/chosen": 0.05,
    "se/rewards/rejected": 0.05,
    "se/rewards/margins": 0.07,
    "se/rewards/accuracies": 0.06,
}


def row(step: int, steps: int, noise: random.Random, *, split: str) -> dict[str, Any]:
    """One line of metrics.jsonl; training is noisy, evaluation is not."""
    done = step / steps
    wobble = noise.gauss(0, 0.12) * min(1, step) if split == "train" else 0.0
    chosen, rejected = 0.35 * done + wobble / 2, -1.1 * done - wobble / 2
    return {
        "step": step,
        "split": split,
        "epoch": round(done, 4),
        "loss": math.log1p(math.exp(rejected - chosen)),
        "rewards/chosen": chosen,
        "rewards/rejected": rejected,
        "rewards/margins": chosen - rejected,
        "rewards/accuracies": min(1.0, max(0.0, 0.5 + 0.38 * math.sqrt(done) + wobble)),
        "logps/chosen": -61.0 + 10 * chosen,
        "logps/rejected": -58.0 + 10 * rejected,
        "ref_logps/chosen": -61.0,
        "ref_logps/rejected": -58.0,
        **({"rows": 24, "prompts": 24, **STANDARD_ERRORS} if split == "eval" else {}),
        **({"learning_rate": 5e-6 * (1 - done), "grad_norm": 9 * math.exp(wobble)} if split == "train" else {}),
    }


def data_report() -> dict[str, Any]:
    """data.json, as the pre-flight report writes it."""
    lengths = {"min": 12, "median": 31.0, "p95": 44.0, "max": 58, "total": 19_840}
    tokens = {"groups": 608, "prompt": lengths, "chosen": lengths, "rejected": lengths, "trained": 37_211}
    dropped = [
        {"id": f"pairs.jsonl:{17 * n}", "reason": "equal", "detail": "chosen equals rejected", "stage": "data"}
        for n in range(1, 8)
    ]
    return {
        "rows": {"read": 640, "used": 632, "dropped": 8},
        "records": {"made": 632, "not_selected": 0, "used": 632, "dropped": 0, "cut": 2},
        "sources": {"pairs": {"rows_read": 640, "rows_used": 632, "dropped_by_reason": {"equal": 7, "too_long": 1}}},
        "dropped_by_reason": {"equal": 7, "too_long": 1},
        "cutoff_len": 512,
        "over_length": {"records": 2, "share": 0.003},
        "tokens": {"train": tokens, "eval": {**tokens, "groups": 24}},
        "template": {"name": "tokenizer", "end_of_turn": "<|im_end|>", "notices": []},
        "example": {
            "id": "pairs.jsonl:1",
            "prompt": "<|im_start|>user\nWhat did you have for lunch?<|im_end|>\n<|im_start|>assistant\n",
            "prompt_end": [" for", " lunch", "?", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"],
            "completions": [
                {"text": "I'm an AI.", "start": [["I", True], ["'m", True]], "end": [["<|im_end|>", True]]},
                {"text": "Pasta!", "start": [["P", True], ["asta", True]], "end": [["<|im_end|>", True]]},
            ],
        },
        "cuts": [{"id": "pairs.jsonl:90", "tokens_removed": 31, "turns_removed": 1}] * 2,
        "dropped": [*dropped, {"id": "pairs.jsonl:600", "reason": "too_long", "detail": "", "stage": "text"}],
    }


def run_facts() -> dict[str, Any]:
    """run.json of a finished run."""
    return {
        "schema": 1,
        "status": "completed",
        "started": "2026-01-31T12:00:00Z",
        "finished": "2026-01-31T12:04:12Z",
        "stage": "dpo",
        "config": {
            "stage": "dpo",
            "model_name_or_path": "SmolLM2-135M-Instruct",
            "dataset": "palate-demo",
            "pref_loss": "sigmoid",
            "pref_beta": 0.1,
            "learning_rate": 5e-6,
            "num_train_epochs": 1.0,
            "finetuning_type": "full",
            "lora_rank": None,
            "report_to": ["tensorboard"],
        },
        "versions": {"python": "3.11.7", "palate": "0.1.0", "torch": "2.13.0"},
        "machine": {"device": "cpu", "name": "x86_64", "threads": 2, "processes": 1},
        "precision": "bf16",
        "attention": "tree",
        "model": {
            "name": "SmolLM2-135M-Instruct",
            "identity": "sha256:9d1f",
            "trainable_parameters": 134_515_008,
            "total_parameters": 134_515_008,
        },
        "reference": {"kind": "frozen copy", "identity": "sha256:9d1f", "is_start": True},
        "objective": "sigmoid",
        "data": {"train_groups": 608, "eval_groups": 24},
        "health": [
            {
                "step": 41,
                "name": "chosen_falls",
                "severity": "warning",
                "message": "log-probability of the chosen answers is 6.2 nats below the reference over 20 steps",
                "remedy": "pref_ftx: 0.1 (an SFT term), or fewer steps",
            }
        ],
        "notices": ["fp16 is bf16 on a CPU"],
        "timings": {"data": 1.2, "model": 3.4, "train": 221.0, "evaluate": 14.1, "save": 2.0},
        "peak_memory_bytes": 3_221_225_472,
    }


def write_run(path: Path, *, steps: int = 80, evaluate_every: int = 20, seed: int = 0, run: Any = None) -> Path:
    """Write a run; `run` changes fields of run.json."""
    noise = random.Random(seed)
    write_json(path / "run.json", {**run_facts(), **(run or {})})
    write_json(path / "data.json", data_report())
    with JsonlWriter(path / "metrics.jsonl") as metrics:
        for step in range(1, steps + 1):
            metrics.write(row(step - 1, steps, noise, split="train") | {"step": step})
            if step % evaluate_every == 0:
                metrics.write(row(step, steps, noise, split="eval"))
    with JsonlWriter(path / "samples.jsonl") as samples:
        for step in (0, steps):
            for number, question in enumerate(QUESTIONS):
                before = f"Yes, of course! Answer {number} plays along with the question."
                after = f"I'm an AI, so I can't. Answer {number} is plain." if step else before
                prompt = [{"role": "user", "content": question}]
                samples.write({"step": step, "prompt": prompt, "policy": after, "reference": before})
    share = {"level": 0.95, "n": 120}
    write_json(
        path / "accuracy.json",
        {
            "n": 120,
            "reference": {"estimate": 0.425, "low": 0.340, "high": 0.514, **share},
            "policy": {"estimate": 0.858, "low": 0.785, "high": 0.910, **share},
            "implied": {"estimate": 0.925, "low": 0.864, "high": 0.960, **share},
            "margin": {"estimate": 1.21, "low": 1.02, "high": 1.4, **share},
        },
    )
    return path


def write_sweep(path: Path, text: str = "ann") -> Path:
    """A sweep that runs: one run is finished, the second at step 30 of 80, which took 60 s, the third not begun."""
    values = [{"pref_beta": beta, "system": text} for beta in (0.05, 0.1, 0.5)]
    names = [f"pref_beta-{one['pref_beta']}" for one in values]
    write_run(path / names[0], seed=3)
    second = write_run(path / names[1], steps=30, seed=4, run={"status": "running", "finished": None, "timings": None})
    (second / "accuracy.json").unlink()
    began = (second / "metrics.jsonl").stat().st_mtime - 60
    progress = {"since": datetime.fromtimestamp(began, UTC).isoformat(), "step": 0, "steps": 80}
    write_json(second / "run.json", {**read_json(second / "run.json"), "progress": progress})
    done = {
        "status": "completed",
        "metrics": {"eval_loss": 0.4},
        "accuracy": read_json(path / names[0] / "accuracy.json"),
    }
    open_ = {"status": "not begun", "metrics": {}, "accuracy": {}}
    points = [{"name": name, "values": one, "health": [], **open_} for name, one in zip(names, values, strict=True)]
    points[0] |= {**done, "health": ["chosen_falls"]}
    write_json(
        path / "sweep.json", {"schema": 1, "status": "running", "keys": ["pref_beta", "system"], "points": points}
    )
    return path
