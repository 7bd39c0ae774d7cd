"""Preferences by the true reward on samples of the SFT model, and the reward model that is learnt from them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from _cells import Cell, Record, place
from _reward import sentiment
from _trained import logged, train_run
from _world import PRECISION, TEMPLATE, WorldConfig, read_reviews, sampled, subject, world_place
from pydantic import Field, model_validator

from palate.models.generation.decoding import sampling_seed
from palate.records import Messages

_SAMPLES = 4


class ReviewConfig(WorldConfig):
    """Runs within the world.

    Attributes:
        labels: pairs of completions that are compared, ties among them; one to a prompt.
        held_out_labels: further pairs, never trained on.
        label_temperature: 0 labels the higher true reward as chosen; T > 0 draws the label from Bradley and Terry's
            model, with probability 1 / (1 + exp(−Δ/T)).
        batch: pairs, or answers, to one optimiser step.
        epochs: passes over the pairs.
        warmup_steps: of every run, and so of every round.
        learning_rates: of each method; `rm` is the reward model.
        rounds: of online DPO.
        ppo_epochs: optimiser steps on each batch of PPO's answers.
        group: answers to a prompt that GRPO compares.
        rollouts: answers that PPO and GRPO sample in all.
        rm_epochs: passes of the reward model over the pairs.
        checkpoints: of a run that are measured, its end included.
        measured_prompts: held-out film prompts on which they are, at most `held_out_prompts`.
    """

    labels: int = Field(1024, ge=4)
    held_out_labels: int = Field(256, ge=4)
    label_temperature: float = Field(0.0, ge=0)
    batch: int = Field(32, ge=2)
    epochs: float = Field(2.0, gt=0)
    warmup_steps: int = Field(5, ge=0)
    learning_rates: dict[str, float]
    rounds: int = Field(4, ge=1)
    ppo_epochs: int = Field(4, ge=1)
    group: int = Field(8, ge=2)
    rollouts: int = Field(4096, ge=2)
    rm_epochs: float = Field(2.0, gt=0)
    checkpoints: int = Field(3, ge=1)
    measured_prompts: int = Field(200, ge=2)

    @model_validator(mode="after")
    def _there_are_prompts_for_all_labels(self) -> Self:
        asked = self.labels + self.held_out_labels
        if asked > self.train_prompts:
            raise ValueError(
                f"labels {self.labels} and held_out_labels {self.held_out_labels} need a prompt each, and there are "
                f"{self.train_prompts}; raise train_prompts"
            )
        return self

    def shared(self, *keys: str) -> dict[str, Any]:
        """Settings of a cell: those that every run has, and the named ones."""
        common = ("seed", "max_steps", "max_new_tokens", "batch", "warmup_steps")
        return {key: getattr(self, key) for key in (*common, *keys)}


def pairs_cell(config: ReviewConfig, folder: Path) -> Cell:
    """Two completions of the SFT model to each prompt, compared by the true reward; ties are dropped."""

    def make(at: Path) -> Record:
        world = world_place(config, folder)
        prompts, _ = read_reviews(world / "prompts.jsonl")
        model = subject(world / "sft")
        asked = prompts[: config.labels + config.held_out_labels]
        both = [
            sampled(model, asked, seed=config.seed, name=name, temperature=1.0, tokens=config.max_new_tokens)
            for name in ("first", "second")
        ]
        rows = labelled(asked, both[0], both[1], temperature=config.label_temperature, seed=config.seed)
        write_rows(at / "pairs.jsonl", [row for row in rows[: config.labels] if row])
        write_rows(at / "held_out.jsonl", [row for row in rows[config.labels :] if row])
        kept = [row for row in rows[: config.labels] if row]
        return {
            "labels": len(kept),
            "ties": config.labels - len(kept),
            "held_out": sum(1 for row in rows[config.labels :] if row),
            "mean_margin": sum(row["margin"] for row in kept) / max(1, len(kept)),
            "samples": kept[:_SAMPLES],
        }

    settings = config.shared("labels", "held_out_labels", "label_temperature")
    return Cell("pairs", make, settings, needs=("world",))


def labelled(
    prompts: Sequence[Messages], first: Sequence[str], second: Sequence[str], *, temperature: float, seed: int
) -> list[dict[str, Any]]:
    """A row with chosen, rejected and margin for each prompt; an empty one for a tie.

    Args:
        temperature: as `label_temperature` of the config.
    """
    rows: list[dict[str, Any]] = []
    scores = zip(sentiment(prompts, first), sentiment(prompts, second), strict=True)
    for number, (prompt, one, other, (left, right)) in enumerate(zip(prompts, first, second, scores, strict=True)):
        if left == right or not one or not other:
            rows.append({})
            continue
        chance = 1.0 if left > right else 0.0
        if temperature:
            chance = 1 / (1 + math.exp(-(left - right) / temperature))
        wins = random.Random(sampling_seed(seed, "label", number)).random() < chance  # noqa: S311
        chosen, rejected = (one, other) if wins else (other, one)
        margin = round(left - right if wins else right - left, 4)
        rows.append({"prompt": prompt[0].content, "chosen": chosen, "rejected": rejected, "margin": margin})
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def pairs_file(folder: Path, *, held_out: bool = False) -> Path:
    """Where the pairs of the experiment in `folder` lie."""
    return (place(folder, "pairs") / ("held_out.jsonl" if held_out else "pairs.jsonl")).resolve()


def reward_model_cell(config: ReviewConfig, folder: Path) -> Cell:
    """A reward model on the same pairs, from the SFT model."""

    def make(at: Path) -> Record:
        trained = train_run(
            {
                **common_values(config, folder, config.seed),
                "stage": "rm",
                "dataset": str(pairs_file(folder)),
                "eval_dataset": str(pairs_file(folder, held_out=True)),
                "eval_strategy": "epoch",
                "learning_rate": config.learning_rates["rm"],
                "num_train_epochs": config.rm_epochs,
                "per_device_train_batch_size": config.batch,
            },
            at / "run",
        )
        return {**trained, "held_out": logged(at / "run", "eval", "loss", "rewards/accuracies")}

    settings = {**config.shared("rm_epochs"), "learning_rate": config.learning_rates["rm"]}
    return Cell("reward model", make, settings, needs=("world", "pairs"))


def reward_model_folder(folder: Path) -> Path:
    """Where the reward model of the experiment in `folder` lies."""
    return (place(folder, "reward model") / "run").resolve()


def common_values(config: ReviewConfig, folder: Path, seed: int) -> dict[str, Any]:
    """Keys that every run but the SFT has."""
    return {
        "model_name_or_path": str(world_place(config, folder) / "sft"),
        "template": TEMPLATE,
        "precision": PRECISION,
        "cutoff_len": 128,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": config.warmup_steps,
        "seed": seed,
        **config.cut,
    }
