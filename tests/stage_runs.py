"""Folders that reports are made of, written at once: runs of every stage, collapsed ones, a pipeline, a frontier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.artifacts import JsonlWriter, write_json
from palate.stats import wilson

STEPS = 30
QUESTIONS = ("Why is the sky blue?", "Name a river.", "Who wrote Hamlet?", "What is 2 + 2?")


def write_run(
    folder: Path,
    stage: str,
    rows: list[dict[str, Any]],
    *,
    answers: tuple[str, str] = ("Because of light.", "I think it is."),
    **facts: Any,
) -> Path:
    """A run of `stage` with its metric rows and the samples (reference's answer, policy's last answer)."""
    config = {"stage": stage, "max_new_tokens": 64, "health_max_kl": 1.0, "model_name_or_path": "tiny"}
    write_json(folder / "run.json", {"status": "completed", "stage": stage, "config": config, "health": [], **facts})
    with JsonlWriter(folder / "metrics.jsonl") as metrics:
        for row in rows:
            metrics.write(row)
    with JsonlWriter(folder / "samples.jsonl") as samples:
        for step, answer in ((0, answers[0]), (STEPS, answers[1])):
            for question in QUESTIONS:
                prompt = [{"role": "user", "content": question}]
                samples.write({"step": step, "prompt": prompt, "policy": answer, "reference": answers[0]})
    return folder


def curve(start: float, end: float, step: int) -> float:
    """From start to end between steps 6 and 18, with a little zigzag."""
    done = min(1.0, max(0.0, (step - 6) / 12))
    return start + (end - start) * done + 0.001 * (-1) ** step * (abs(end - start) + 0.1) * (step > 1)


def online_rows(**ends: tuple[float, float]) -> list[dict[str, Any]]:
    """Rows of a PPO or GRPO run; each metric goes from its first to its last value."""
    healthy = {
        "loss": (0.02, 0.01),
        "reward": (0.2, 0.9),
        "kl": (0.0, 6.0),
        "length": (30.0, 32.0),
        "entropy": (2.0, 1.8),
        "ended": (0.95, 0.97),
    }
    curves = {**healthy, **ends}
    rows: list[dict[str, Any]] = []
    for step in range(1, STEPS + 1):
        values = {name: curve(start, end, step) for name, (start, end) in curves.items()}
        rows.append({"step": step, "split": "train", **values, "grad_norm": 1.0, "learning_rate": 1e-6})
        if step % 10 == 0:
            errors = {"se/reward": 0.05, "se/kl": 0.5, "se/length": 1.0, "se/ended": 0.02}
            rows.append({"step": step, "split": "eval", "rows": 40, "prompts": 40, **values, **errors})
    return rows


COLLAPSED = {
    "loss": (0.4, 0.01),
    "reward": (-5.0, -110.0),
    "kl": (0.0, 300.0),
    "length": (30.0, 64.0),
    "entropy": (2.0, 0.01),
    "ended": (0.95, 0.0),
}
"""What a run looked like that was once headed `as it should be`: the loss fell."""


def offline_rows(stage: str) -> list[dict[str, Any]]:
    """Rows of a healthy run of sft, rm, dpo or kto."""
    rows: list[dict[str, Any]] = []
    for step in range(1, STEPS + 1):
        values = {"loss": curve(0.69, 0.4, step)}
        if stage == "sft":
            values |= {"nll": values["loss"], "logps/chosen": curve(-60, -50, step)}
        else:
            chosen, rejected = curve(0, 0.5, step - 1), curve(0, -0.8, step - 1)
            values |= {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": chosen - rejected}
            values |= {"rewards/accuracies": curve(0.5, 0.9, step)}
        rows.append({"step": step, "split": "train", **values, "grad_norm": 1.0, "learning_rate": 1e-6})
        if step % 10 == 0:
            errors = {f"se/{name}": 0.02 for name in values}
            rows.append({"step": step, "split": "eval", "rows": 60, "prompts": 30, **values, **errors})
    return rows


def interval(estimate: float, half: float = 0.5) -> dict[str, Any]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half, "level": 0.95, "n": 9}


def point(name: str, kl: float, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "group": None,
        "method": None,
        "step": None,
        "model": "models/<base>",
        "reference": name == "reference",
        "rewards": {"length:longer": interval(7 + kl)},
        "kl": interval(kl),
        "kl_sampled": interval(kl, 1.0),
        "tokens": interval(20),
        "ended": interval(0.5),
        "distinct": interval(1.0),
        **changed,
    }


def frontier() -> dict[str, Any]:
    steps = [point(f"dpo/checkpoint-{n}", n / 10, group="dpo", step=n, method="dpo sigmoid") for n in (10, 20)]
    return {
        "rewards": ["length:longer"],
        "points": [point("reference", 0) | {"kl": interval(0, 0)}, *steps],
        "prompts": 9,
        "samples": 4,
        "left_out": 2,
        "max_new_tokens": 64,
        "seed": 42,
        "precision": "fp32",
    }


def share(wins: int, n: int = 40) -> dict[str, Any]:
    found = wilson(wins, n)
    return {"estimate": found.estimate, "low": found.low, "high": found.high, "level": 0.95, "n": n}


def drift(kl: float, wins: int) -> dict[str, Any]:
    accuracy = {"n": 40, "reference": share(20), "policy": share(wins), "margin": interval(kl)}
    return {"kl": interval(kl), "accuracy": accuracy}


def pipeline(folder: Path, *, status: str = "completed") -> Path:
    stages = {"1-sft": offline_rows("sft"), "2-dpo": offline_rows("dpo"), "3-ppo": online_rows()}
    for name, rows in stages.items():
        write_run(folder / name, name[2:], rows, data={"train_groups": 64})
        (folder / name / "report.html").write_text("<!doctype html>")
    runs = [{"name": name, "stage": name[2:], "output_dir": f"/elsewhere/{name}"} for name in (*stages, "4-grpo")]
    found = {"1-sft": drift(2.0, 24), "2-dpo": drift(5.0, 32), "3-ppo": {"kl": interval(9.0), "accuracy": None}}
    write_json(folder / "pipeline.json", {"schema": 1, "status": status, "runs": runs, "drift": found})
    return folder
