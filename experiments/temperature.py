"""Win rates of DPO and PPO by sampling temperature, on the kind of prompt they were trained on and on another domain.

The true reward judges: an answer wins where it is kinder, a tie is half a win. Opponents are a sample of the SFT model
at temperature 1 and the way in which the review really went on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from _cells import Cell, Record, place
from _markdown import interval, markdown
from _preferences import ReviewConfig, pairs_cell, reward_model_cell
from _reward import sentiment
from _runs import METHODS, check_methods, run_cell
from _world import read_reviews, sampled, subject, world_cell, world_place
from pydantic import Field, model_validator

from palate.charts import DataPoint, scatter_chart, svg_file
from palate.records import Messages
from palate.stats import win_rate

Result = Mapping[str, Any]
DOMAINS = {"films": "films, as in training", "meals": "meals, another domain"}
OPPONENTS = {"sft": "the SFT model's sample", "reference": "the review's own continuation"}
# Rafailov et al. 2023 (2305.18290), table 1: summaries of CNN/DailyMail by models trained on Reddit TL;DR, win rate
# against the ground truth as GPT-4 judged it.
PAPER = {"dpo": {0.0: 0.36, 0.25: 0.31}, "ppo-learned": {0.0: 0.26, 0.25: 0.23}}
_SAMPLES = 2


class Config(ReviewConfig):
    """What is compared.

    Attributes:
        strengths: method → the β or KL coefficient of its run.
        temperatures: of the policies' sampling.
        run_seed: of the runs.
    """

    strengths: dict[str, float]
    temperatures: list[float] = Field([0.0, 0.25, 0.5, 0.75, 1.0], min_length=1)
    run_seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _every_method_is_known(self) -> Self:
        check_methods(self, self.strengths, reward_model=True)
        return self


def cells(config: Config, folder: Path) -> list[Cell]:
    """The world, one run of each method, then its win rates."""
    made = [world_cell(config, folder), pairs_cell(config, folder), reward_model_cell(config, folder)]
    for method, strength in config.strengths.items():
        run = run_cell(config, folder, method, strength, config.run_seed)
        made += [run, _win_cell(config, folder, method, run.name)]
    return [*made, _win_cell(config, folder, "SFT model", "world")]


def _win_cell(config: Config, folder: Path, method: str, trained: str) -> Cell:
    def make(_: Path) -> Record:
        world = world_place(config, folder)
        policy = subject(world / "sft" if trained == "world" else place(folder, trained) / "run")
        before = subject(world / "sft")
        rows, texts = [], []
        for domain in DOMAINS:
            prompts, written = read_reviews(world / f"{domain}.jsonl")
            how = {"seed": config.seed, "tokens": config.max_new_tokens}
            rivals = {
                "sft": sampled(before, prompts, name="opponent", temperature=1.0, **how),
                "reference": written,
            }
            for temperature in config.temperatures:
                answers = sampled(policy, prompts, name="win", temperature=temperature, **how)
                scores = sentiment(prompts, answers)
                rates = {name: rate_of_wins(prompts, scores, rival) for name, rival in rivals.items()}
                rows.append(
                    {"domain": domain, "temperature": temperature, "reward": sum(scores) / len(scores), **rates}
                )
                if temperature == config.temperatures[0]:
                    texts += [f"{prompt[0].content} |{answer}" for prompt, answer in zip(prompts, answers)][:_SAMPLES]
        return {"method": method, "strength": config.strengths.get(method), "wins": rows, "samples": texts}

    settings = {**config.shared("held_out_prompts", "temperatures"), "method": method}
    return Cell(
        f"win rates of {method}", make, settings, needs=("world", trained) if trained != "world" else (trained,)
    )


def rate_of_wins(prompts: Sequence[Messages], scores: Sequence[float], rivals: Sequence[str]) -> dict[str, Any]:
    """How often an answer scores above its rival by the true reward, a tie as half, over prompts."""
    against = sentiment(prompts, rivals)
    verdicts = [0.5 if one == other else float(one > other) for one, other in zip(scores, against, strict=True)]
    found = win_rate(verdicts)
    assert found.rate is not None
    ends = {
        key: round(float(value), 5) for key, value in asdict(found.rate).items() if key in ("estimate", "low", "high")
    }
    return {**ends, "ties": found.ties, "n": len(verdicts)}


def tables(result: Result) -> dict[str, str]:
    return {"temperature-wins": _wins_table(result), "temperature-paper": _paper_table(result)}


def figures(result: Result) -> dict[str, str]:
    return {f"temperature_{name}.svg": _figure(result, name) for name in OPPONENTS}


def _wins(result: Result) -> list[Record]:
    return [cell["record"] for cell in result["cells"] if "wins" in cell["record"]]


def _name(record: Record) -> str:
    method = METHODS.get(record["method"], record["method"])
    return method if record["strength"] is None else f"{method}, {record['strength']:g}"


def _wins_table(result: Result) -> str:
    rows = [
        [
            _name(record),
            DOMAINS[row["domain"]],
            f"{row['temperature']:g}",
            *(interval(row[name], 1, percent=True) for name in OPPONENTS),
            f"{row['reward']:.2f}",
        ]
        for record in _wins(result)
        for row in record["wins"]
    ]
    header = ["model", "prompts", "temperature", *(f"wins against {name}" for name in OPPONENTS.values())]
    return markdown([*header, "true reward"], rows, text_columns=2)


def _paper_table(result: Result) -> str:
    """Out of domain at temperatures 0 and 0.25 against the reference answer, beside the paper's figures."""
    rows = []
    for record in _wins(result):
        method = record["method"]
        for row in record["wins"]:
            if row["domain"] == "meals" and row["temperature"] in (0.0, 0.25):
                paper = PAPER.get(method, {}).get(row["temperature"])
                rows.append(
                    [
                        _name(record),
                        f"{row['temperature']:g}",
                        interval(row["reference"], 2),
                        "–" if paper is None else f"{paper:.2f}",
                    ]
                )
    return markdown(["model", "temperature", "here, on meals", "the paper, on CNN/DailyMail"], rows)


def _figure(result: Result, opponent: str) -> str:
    series: dict[str, list[DataPoint]] = {}
    for domain in DOMAINS:
        for record in _wins(result):
            series[f"{_name(record)}: {domain}"] = [
                DataPoint(row["temperature"], None, None, *(row[opponent][key] for key in ("estimate", "low", "high")))
                for row in record["wins"]
                if row["domain"] == domain
            ]
    return svg_file(
        scatter_chart(
            series,
            key=f"temperature-{opponent}",
            title=f"Win rate against {OPPONENTS[opponent]}",
            x_label="sampling temperature",
            y_label=f"share of wins against {OPPONENTS[opponent]}",
            levels=((0.5, "as good"),),
        )
    )
