"""Runs of every method on the preferences and the true reward, each placed by reward and KL."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from _cells import Cell, Record
from _places import Points, place_points
from _preferences import ReviewConfig, common_values, pairs_file, reward_model_folder
from _trained import QUIET, logged, train_run
from _world import TRUE_REWARD, world_place

from palate.artifacts import RunDir, remove_folder
from palate.config.pipeline import load_pipeline
from palate.pipelines.pipeline import run_pipeline

METHODS: Mapping[str, str] = {
    "dpo": "DPO",
    "ipo": "IPO",
    "kto": "KTO",
    "sft": "preferred-only SFT",
    "online": "online DPO",
    "grpo": "GRPO, true reward",
    "ppo": "PPO, true reward",
    "ppo-learned": "PPO, learned reward",
}
OFFLINE = ("dpo", "ipo", "kto", "sft")


def offline_values(
    config: ReviewConfig, folder: Path, method: str, strength: float | None, seed: int, **changed: Any
) -> dict[str, Any]:
    """The config of a run on the pairs: dpo, ipo, kto or sft (on chosen completions)."""
    values: dict[str, Any] = {
        **common_values(config, folder, seed),
        "stage": {"dpo": "dpo", "ipo": "dpo", "kto": "kto", "sft": "sft"}[method],
        "dataset": str(pairs_file(folder)),
        "learning_rate": config.learning_rates[method],
        "num_train_epochs": config.epochs,
        # A pair is two single answers to kto: as many answers to a step as the others have.
        "per_device_train_batch_size": 2 * config.batch if method == "kto" else config.batch,
    }
    if method != "sft":
        values |= {"pref_beta": strength, "sample_prompts": 0, **({"pref_loss": "ipo"} if method == "ipo" else {})}
    return values | changed


def online_rl_values(
    config: ReviewConfig, folder: Path, method: str, strength: float | None, seed: int, **changed: Any
) -> dict[str, Any]:
    """The config of a run that samples: grpo, ppo or ppo-learned, with `strength` as kl_coef."""
    values: dict[str, Any] = {
        **common_values(config, folder, seed),
        "stage": method.partition("-")[0],
        "dataset": str(world_place(config, folder) / "prompts.jsonl"),
        "rewards": str(reward_model_folder(folder)) if method == "ppo-learned" else TRUE_REWARD,
        "learning_rate": config.learning_rates[method],
        "kl_coef": strength,
        "max_new_tokens": config.max_new_tokens,
        "sample_prompts": 0,
        "num_train_epochs": 100,
    }
    if method == "grpo":
        values |= {
            "num_generations": config.group,
            "per_device_train_batch_size": max(1, config.batch * 2 // config.group),
            "max_steps": max(1, config.rollouts // (config.batch * 2)),
        }
    else:
        values |= {
            "per_device_train_batch_size": config.batch * 2,
            "ppo_epochs": config.ppo_epochs,
            "ppo_score_norm": method == "ppo-learned",
            "max_steps": max(1, config.rollouts // (config.batch * 2)) * config.ppo_epochs,
        }
    return values | config.cut | changed


def run_cell(
    config: ReviewConfig, folder: Path, method: str, strength: float | None, seed: int, *, labels: int | None = None
) -> Cell:
    """Train one method at one strength (β, or the KL coefficient) with one seed, and measure its checkpoints.

    Args:
        labels: budget of comparisons; the config's where absent.
    """
    budget = labels or config.labels

    def make(at: Path) -> Record:
        trained, points = (
            _online_rounds(config, folder, at, strength, seed, budget)
            if method == "online"
            else _one_run(config, folder, at, method, strength, seed, budget)
        )
        measured, texts = place_points(config, folder, points, learned=config_has_reward_model(config))
        for _, path, _ in points:
            if path.name.startswith("checkpoint-"):
                remove_folder(path)  # measured, and large
        return {**_identity(method, strength, seed, budget), **trained, "points": measured, "samples": texts}

    keys = ["checkpoints", "measured_prompts"]
    keys += ["epochs"] if method in OFFLINE else ["epochs", "rounds"] if method == "online" else ["rollouts"]
    keys += ["group"] if method == "grpo" else ["ppo_epochs"] if method.startswith("ppo") else []
    settings = {
        **config.shared(*keys),
        **_identity(method, strength, seed, budget),
        "learning_rate": config.learning_rates["dpo" if method == "online" else method],
    }
    needs = ("world", "pairs", *(("reward model",) if config_has_reward_model(config) else ()))
    suffix = "" if labels is None else f" labels {labels}"
    return Cell(cell_name(method, strength, seed) + suffix, make, settings, needs=needs)


def check_methods(config: ReviewConfig, methods: Collection[str], *, reward_model: bool = False) -> None:
    """For a config's own check: each method is one of `METHODS` and has its learning rate.

    Args:
        reward_model: whether the experiment trains one, `rm`.

    Raises:
        ValueError: one is not, or has none.
    """
    unknown = next((method for method in methods if method not in METHODS), None)
    if unknown is not None:
        raise ValueError(f"strengths: {unknown} is no method; there are {', '.join(METHODS)}")
    trained = ["dpo" if method == "online" else method for method in methods] + ["rm"] * reward_model
    missing = next((name for name in trained if name not in config.learning_rates), None)
    if missing is not None:
        raise ValueError(f"learning_rates: {missing} is missing")


def cell_name(method: str, strength: float | None, seed: int) -> str:
    """`dpo 0.1 seed 2`."""
    return f"{method} {'' if strength is None else f'{strength:g} '}seed {seed}"


def config_has_reward_model(config: ReviewConfig) -> bool:
    """Whether the experiment trains a reward model."""
    return "rm" in config.learning_rates


def _identity(method: str, strength: float | None, seed: int, labels: int) -> dict[str, Any]:
    return {"method": method, "strength": strength, "run_seed": seed, "budget": labels}


def _one_run(
    config: ReviewConfig, folder: Path, at: Path, method: str, strength: float | None, seed: int, labels: int
) -> tuple[dict[str, Any], Points]:
    if method in OFFLINE:
        pairs = _first_pairs(folder, at, labels, config.labels)
        values = offline_values(config, folder, method, strength, seed, dataset=str(pairs))
        answers = (1 if method == "sft" else 2) * len(pairs.read_text(encoding="utf-8").splitlines())
        steps = max(1, int(config.epochs * answers // (config.batch * (1 if method == "sft" else 2))))
        counts = {"labels": answers // (1 if method == "sft" else 2), "generated": 2 * labels}
    else:
        values = online_rl_values(config, folder, method, strength, seed)
        steps = int(values["max_steps"])
        rounds = steps // (config.ppo_epochs if method.startswith("ppo") else 1)
        generated = max(1, rounds) * config.batch * 2
        learnt = _lines(pairs_file(folder)) if method == "ppo-learned" else 0
        counts = {"labels": learnt, "generated": generated + (2 * config.labels if learnt else 0)}
    steps = min(steps, config.max_steps or steps)
    every = max(1, steps // config.checkpoints)
    saving = {"save_strategy": "steps", "save_steps": every, "save_only_model": True}
    trained = train_run({**values, **(saving if config.checkpoints > 1 else {})}, at / "run")
    found = sorted((int(path.name.rpartition("-")[2]), path) for path in (at / "run").glob("checkpoint-*"))
    last = int(logged(at / "run", "train")[-1]["step"])
    points = [(f"step {step}", path, step) for step, path in found if step <= last - every / 2]
    extra = [path for step, path in found if step > last - every / 2]
    for path in extra:
        remove_folder(path)
    return {**trained, **counts, "steps": last}, [*points, ("end", at / "run", last)]


def _first_pairs(folder: Path, at: Path, labels: int, most: int) -> Path:
    """As many of the first pairs as `labels` comparisons give on average, where `most` gave all: some are ties."""
    if labels >= most:
        return pairs_file(folder)
    rows = pairs_file(folder).read_text(encoding="utf-8").splitlines(keepends=True)
    path = at / "pairs.jsonl"
    path.write_text("".join(rows[: max(2, round(labels * len(rows) / most))]), encoding="utf-8")
    return path


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _online_rounds(
    config: ReviewConfig, folder: Path, at: Path, strength: float | None, seed: int, labels: int
) -> tuple[dict[str, Any], Points]:
    """`rounds:` of DPO whose pairs the policy makes and the true reward judges; the reference stays the SFT model."""
    values = {
        **QUIET,
        **offline_values(config, folder, "dpo", strength, seed),
        "output_dir": str(at / "rounds"),
        "reference": "first",
        "rounds": config.rounds,
        "prompts": str(world_place(config, folder) / "prompts.jsonl"),
        "prompts_per_round": max(2, labels // config.rounds),
        "candidates": 2,
        "candidate_max_new_tokens": config.max_new_tokens,
        "judge": TRUE_REWARD,
        "drift_samples": 0,
    }
    del values["dataset"]
    path = at / "rounds.yaml"
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    result = run_pipeline(load_pipeline(path))
    facts = [RunDir(run).read() for run in result.runs]
    pairs = [_lines(at / "rounds" / f"round-{number}-data" / "pairs.jsonl") for number in range(1, config.rounds + 1)]
    steps = [int(logged(run, "train")[-1]["step"]) for run in result.runs]
    trained = {
        "metrics": {},
        "timings": {"train": sum(one["timings"]["train"] for one in facts)},
        "peak_memory": max(one["peak_memory_bytes"] for one in facts),
        "reference": (facts[0].get("reference") or {}).get("kind"),
        "labels": sum(pairs),
        "generated": 2 * max(2, labels // config.rounds) * config.rounds,
        "steps": sum(steps),
    }
    points = [(f"round {n}", run, sum(steps[:n])) for n, run in enumerate(result.runs[:-1], 1)]
    return trained, [*points, ("end", result.runs[-1], sum(steps))]
