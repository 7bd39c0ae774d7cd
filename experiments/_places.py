"""Where the runs of the review experiments end up: true reward, learned reward and KL to the SFT model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _cells import Record
from _preferences import ReviewConfig, reward_model_folder
from _reward import sentiment
from _world import PRECISION, TEMPLATE, read_reviews, world_place

from palate.evaluation.frontier import FrontierModel, measure_frontier
from palate.evaluation.subject import ModelSpec
from palate.models.reward_model import RewardModel
from palate.records import Record as PromptRecord
from palate.records import RewardFunction
from palate.text.template import load_template

_SAMPLES = 4

Points = list[tuple[str, Path, int]]
"""(name, folder, optimiser step) of the checkpoints of a run, its end last."""


def place_points(
    config: ReviewConfig, folder: Path, points: Points, *, learned: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """True reward, learned reward and KL to the SFT model of each point, and a few texts of the last."""
    world = world_place(config, folder)
    prompts, _ = read_reviews(world / "films.jsonl")
    rewards: dict[str, RewardFunction] = {"true": sentiment}
    if learned:
        rewards["learned"] = RewardModel(
            reward_model_folder(folder), template=lambda tokenizer: load_template(tokenizer, TEMPLATE)
        )
    frontier = measure_frontier(
        [FrontierModel(name, _spec(name, path), step=step) for name, path, step in points],
        _spec("sft", world / "sft"),
        [PromptRecord(id=str(place), prompt=prompt) for place, prompt in enumerate(prompts[: config.measured_prompts])],
        rewards,
        samples=1,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        precision=PRECISION,
        cutoff_len=256,
    )
    measured = [
        {
            "name": point.name,
            "step": 0 if point.reference else point.step,
            "rewards": {name: _ends(asdict(value)) for name, value in point.rewards.items()},
            "kl": _ends(asdict(point.kl)),
            "kl_error": float(f"{point.kl_error:.6g}"),
            "tokens": round(point.tokens.estimate, 2),
            "ended": round(point.ended.estimate, 4),
        }
        for point in frontier.points
    ]
    last = [answer for answer in frontier.answers if answer.point == "end"][:_SAMPLES]
    return measured, [f"{prompts[answer.prompt][0].content} |{answer.text}" for answer in last]


def _spec(name: str, path: Path) -> ModelSpec:
    return ModelSpec(name, str(path), (), TEMPLATE)


def _ends(value: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(f"{value[key]:.6g}") for key in ("estimate", "low", "high")}


def end(record: Record) -> dict[str, Any]:
    """The last point of a run."""
    found: dict[str, Any] = record["points"][-1]
    return found


def records_of(result: Mapping[str, Any], accept: Callable[[Record], bool] = lambda _: True) -> list[Record]:
    """The records of an experiment's runs, in order."""
    found = [cell["record"] for cell in result["cells"] if "points" in cell["record"]]
    return [record for record in found if accept(record)]
