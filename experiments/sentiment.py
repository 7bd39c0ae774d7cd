"""Reward against KL, the DPO paper's first experiment: DPO, IPO, KTO, preferred-only SFT, online DPO, GRPO and PPO.

A small model writes film reviews, a sentiment lexicon is the true reward, and preferences are what that reward says of
two samples of the SFT model. Each run is placed by true reward, learned reward and KL to the SFT model, at its
checkpoints and at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from _cells import Cell
from _fronts import front_marks, grouped, mean, reward_at_kl, spread, told
from _markdown import interval, markdown
from _places import end, records_of
from _preferences import ReviewConfig, pairs_cell, reward_model_cell
from _runs import METHODS, cell_name, check_methods, run_cell
from _shown import ends as bar
from _world import world_cell
from pydantic import Field, model_validator

from palate.charts import DataPoint, scatter_chart, svg_file

Result = Mapping[str, Any]
_MODELS = {
    "dpo": "policy; reference until its log-probabilities are stored",
    "ipo": "policy; reference until its log-probabilities are stored",
    "kto": "policy; reference until its log-probabilities are stored",
    "online": "policy; reference until its log-probabilities are stored",
    "sft": "policy",
    "grpo": "policy, reference",
    "ppo": "policy with value head, reference",
    "ppo-learned": "policy with value head, reference, reward model",
}


class Config(ReviewConfig):
    """What is compared.

    Attributes:
        strengths: method → its β or KL coefficients; `sft` has none and takes `[0]`.
        seeds: method → seeds of its runs; `other` for those that are not named.
        equal_kl: KLs at which rewards are read off the fronts, in nats.
    """

    strengths: dict[str, list[float]]
    seeds: dict[str, list[int]]
    equal_kl: list[float] = Field([1.0, 3.0, 6.0], min_length=1)

    @model_validator(mode="after")
    def _every_method_is_known_and_has_seeds(self) -> Self:
        check_methods(self, self.strengths, reward_model=True)
        without = next((name for name in self.strengths if name not in self.seeds and "other" not in self.seeds), None)
        if without is not None:
            raise ValueError(f"seeds: {without} is missing, and there is no other")
        return self


def cells(config: Config, folder: Path) -> list[Cell]:
    """The world, its pairs and reward model, then every method at every strength with every seed."""
    made = [world_cell(config, folder), pairs_cell(config, folder), reward_model_cell(config, folder)]
    for method, strengths in config.strengths.items():
        for strength in strengths:
            for seed in config.seeds.get(method, config.seeds["other"]):
                made.append(run_cell(config, folder, method, None if method == "sft" else strength, seed))
    return made


def tables(result: Result) -> dict[str, str]:
    return {
        "sentiment-world": _world_table(result),
        "sentiment-front": _front_table(result),
        "sentiment-equal-kl": _equal_kl_table(result),
        "sentiment-checkpoints": _checkpoint_table(result),
        "sentiment-cost": _cost_table(result),
        "sentiment-samples": _sample_table(result),
    }


def figures(result: Result) -> dict[str, str]:
    return {
        "sentiment_front.svg": _front_figure(result),
        "sentiment_true_along_training.svg": _along_training(result, "true", "true reward"),
        "sentiment_learned_along_training.svg": _along_training(result, "learned", "learned reward, log-odds"),
    }


# ---- tables


def _world_table(result: Result) -> str:
    """What the reference writes, and what the preferences are made of."""
    world, pairs, rm = (_cell(result, name)["record"] for name in ("world", "pairs", "reward model"))
    accuracy = rm["held_out"][-1].get("rewards/accuracies") if rm["held_out"] else None
    rows = [
        ["parameters of the model", f"{world['parameters']:,}"],
        ["its mean true reward, films", interval(world["films"]["reward"])],
        ["standard deviation of that reward", f"{world['films']['spread']:.2f}"],
        ["mean true reward of the reviews themselves, films", interval(world["films"]["reward_of_reviews"])],
        ["its mean true reward, meals", interval(world["meals"]["reward"])],
        ["labelled pairs; ties dropped", f"{pairs['labels']:,}; {pairs['ties']:,}"],
        ["mean reward difference of a pair", f"{pairs['mean_margin']:.2f}"],
        ["reward model: held-out pairs ordered as labelled", "–" if accuracy is None else f"{100 * accuracy:.1f} %"],
    ]
    return markdown(["", "value"], rows)


def _front_table(result: Result) -> str:
    rows = []
    for (method, strength), records in grouped(result).items():
        ends = [end(record) for record in records]
        rows.append(
            [
                METHODS[method],
                "–" if strength is None else f"{strength:g}",
                len(records),
                told([one["rewards"]["true"] for one in ends]),
                told([one["rewards"]["learned"] for one in ends]),
                told([one["kl"] for one in ends]),
                f"{mean([one['tokens'] for one in ends]):.1f}",
                f"{100 * mean([one['ended'] for one in ends]):.0f} %",
            ]
        )
    first = records_of(result)[0]["points"][0]
    start = ["SFT model", "–", "–", interval(first["rewards"]["true"]), interval(first["rewards"]["learned"]), "0"]
    return markdown(
        ["method", "β or KL coefficient", "seeds", "true reward", "learned reward", "KL, nats", "tokens", "ended"],
        [[*start, f"{first['tokens']:.1f}", f"{100 * first['ended']:.0f} %"], *rows],
        text_columns=2,
    )


def _equal_kl_table(result: Result) -> str:
    """Rewards read off each method's front, its ends joined from the SFT model on by lines straight in √KL."""
    targets = result["config"]["equal_kl"]
    rows = []
    for method in METHODS:
        of_seed: dict[int, list[dict[str, Any]]] = {}
        for record in records_of(result, lambda record, method=method: record["method"] == method):  # type: ignore[misc]
            of_seed.setdefault(record["run_seed"], []).append(record)
        if not of_seed:
            continue
        row: list[Any] = [METHODS[method], len(of_seed)]
        for target in targets:
            found = [value for one in of_seed.values() if (value := reward_at_kl(one, target)) is not None]
            row.append(f"{mean(found):.2f}{spread(found)}" if len(found) == len(of_seed) else "not reached")
        rows.append(row)
    return markdown(["method", "seeds", *(f"true reward at {target:g} nats" for target in targets)], rows)


def _checkpoint_table(result: Result) -> str:
    """Over-optimisation: means over seeds at every measured step of DPO and PPO."""
    rows = []
    for (method, strength), records in grouped(result).items():
        if method not in ("dpo", "ppo", "ppo-learned"):
            continue
        for points in zip(*(record["points"][1:] for record in records), strict=False):
            rows.append(
                [
                    METHODS[method],
                    f"{strength:g}",
                    points[0]["step"],
                    *(f"{mean([p['rewards'][name]['estimate'] for p in points]):.2f}" for name in ("true", "learned")),
                    f"{mean([p['kl']['estimate'] for p in points]):.2f}",
                ]
            )
    header = ["method", "β or KL coefficient", "step", "true reward", "learned reward", "KL, nats"]
    return markdown(header, rows, text_columns=2)


def _cost_table(result: Result) -> str:
    """Wall time, memory, spread and what a label or a sample bought, at each method's best strength.

    Training is the run's own: PPO and GRPO sample within it, online DPO samples and judges between its rounds, and the
    pairs and the reward model are made before any. The whole cell has all but the last, and measures the checkpoints.
    """
    rows = []
    seconds = {cell["name"]: cell["seconds"] for cell in result["cells"]}
    start = records_of(result)[0]["points"][0]["rewards"]["true"]["estimate"]
    best: dict[str, tuple[float, list[dict[str, Any]], float | None]] = {}
    for (method, strength), records in grouped(result).items():
        reward = mean([end(record)["rewards"]["true"]["estimate"] for record in records])
        if method not in best or reward > best[method][0]:
            best[method] = (reward, records, strength)
    for method, (reward, records, strength) in best.items():
        values = [end(record)["rewards"]["true"]["estimate"] for record in records]
        labels, generated = (mean([record[key] for record in records]) for key in ("labels", "generated"))
        rows.append(
            [
                f"{METHODS[method]}{'' if strength is None else f' ({strength:g})'}",
                _MODELS[method],
                f"{mean([record['timings']['train'] for record in records]):.0f}",
                f"{mean([seconds[cell_name(method, strength, record['run_seed'])] for record in records]):.0f}",
                f"{mean([record['peak_memory'] for record in records]) / 2**20:.0f}",
                f"{reward:.2f}",
                f"{max(values) - min(values):.2f}" if len(values) > 1 else "one seed",
                f"{labels:,.0f}",
                f"{generated:,.0f}",
                f"{1000 * (reward - start) / labels:.2f}" if labels else "–",
                f"{1000 * (reward - start) / generated:.2f}",
            ]
        )
    header = [
        "method at its highest reward",
        "models in memory",
        "training, s",
        "whole cell, s",
        "peak memory of the process, MiB",
        "true reward",
        "largest − smallest seed",
        "labels",
        "answers sampled",
        "gain per 1,000 labels",
        "gain per 1,000 answers",
    ]
    return markdown(header, rows, text_columns=2)


def _sample_table(result: Result) -> str:
    """What the SFT model and each method's first seed write to the same two prompts."""
    rows = [["SFT model", text] for text in _cell(result, "world")["record"]["films"]["samples"][:2]]
    for (method, strength), records in grouped(result).items():
        name = METHODS[method] if strength is None else f"{METHODS[method]}, {strength:g}"
        rows += [[name, text] for text in records[0]["samples"][:2]]
    return markdown(["model", "prompt, then completion"], rows, text_columns=2)


# ---- figures


def _front_figure(result: Result) -> str:
    start = records_of(result)[0]["points"][0]
    series: dict[str, Sequence[DataPoint]] = {"SFT model": [DataPoint(0.0, None, None, *bar(start["rewards"]["true"]))]}
    series |= {METHODS[method]: marks for method, marks in front_marks(result).items()}
    return svg_file(
        scatter_chart(
            series,
            key="sentiment-front",
            title="True reward against KL to the SFT model",
            y_label="true reward (VADER compound), mean over prompts",
            x_scale="sqrt",
            muted=("SFT model",),
        )
    )


def _along_training(result: Result, kind: str, label: str) -> str:
    """One of the two rewards at the checkpoints of DPO and of PPO by the learned reward, means over seeds."""
    series = {
        f"{METHODS[method]}, {strength:g}": [
            DataPoint(
                mean([point["kl"]["estimate"] for point in points]),
                None,
                None,
                mean([point["rewards"][kind]["estimate"] for point in points]),
                None,
                None,
                f"{points[0]['step']}",
            )
            for points in zip(*(record["points"] for record in records), strict=False)
        ]
        for (method, strength), records in grouped(result).items()
        if method in ("dpo", "ppo-learned")
    }
    return svg_file(
        scatter_chart(
            series,
            key=f"sentiment-{kind}",
            title=f"{label} along training, by KL to the SFT model; marks are labelled with their step",
            y_label=f"{label}, mean over prompts and seeds",
            x_scale="sqrt",
            order="given",
        )
    )


def _cell(result: Result, name: str) -> dict[str, Any]:
    return next(dict(cell) for cell in result["cells"] if cell["name"] == name)
