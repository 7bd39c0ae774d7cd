"""Run directories of every stage, written in a moment: healthy ones, and online runs that collapsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.artifacts import JsonlWriter, write_json

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
