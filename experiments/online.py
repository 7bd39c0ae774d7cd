"""Online against offline DPO at an equal number of labels.

Offline, all pairs come from the SFT model; online, each of a few rounds compares samples of the policy as it then is.
Both spend the same comparisons (ties count as spent) and the reference of both is the SFT model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from _cells import Cell, Record
from _fronts import mean, spread, told
from _markdown import markdown
from _places import end, records_of
from _preferences import ReviewConfig, pairs_cell
from _runs import check_methods, run_cell
from _world import world_cell
from pydantic import Field, model_validator

from palate.charts import DataPoint, scatter_chart, svg_file
from palate.stats import mean_interval

Result = Mapping[str, Any]
NAMES = {"dpo": "offline DPO", "online": "online DPO"}


class Config(ReviewConfig):
    """What is compared.

    Attributes:
        budgets: of comparisons; none above `labels`.
        beta: of both.
        run_seeds: of each run.
    """

    budgets: list[int] = Field(min_length=1)
    beta: float = Field(0.1, gt=0)
    run_seeds: list[int] = Field([0, 1, 2], min_length=1)

    @model_validator(mode="after")
    def _no_budget_is_above_the_labels(self) -> Self:
        check_methods(self, NAMES)
        if max(self.budgets) > self.labels:
            raise ValueError(f"budgets: {max(self.budgets)} is above labels {self.labels}; offline DPO has no more")
        return self


def cells(config: Config, folder: Path) -> list[Cell]:
    """The world, its pairs, and both kinds of run for each budget and seed."""
    runs = [
        run_cell(config, folder, method, config.beta, seed, labels=budget)
        for budget in config.budgets
        for method in NAMES
        for seed in config.run_seeds
    ]
    return [world_cell(config, folder), pairs_cell(config, folder), *runs]


def _found(result: Result, method: str, budget: int) -> list[Record]:
    return records_of(result, lambda record: record["method"] == method and record["budget"] == budget)


def tables(result: Result) -> dict[str, str]:
    rows = []
    for budget in result["config"]["budgets"]:
        for method, name in NAMES.items():
            records = _found(result, method, budget)
            ends = [end(record) for record in records]
            rewards = [one["rewards"]["true"] for one in ends]
            gains = [
                1000 * (end(r)["rewards"]["true"]["estimate"] - r["points"][0]["rewards"]["true"]["estimate"]) / budget
                for r in records
            ]
            kls = [1000 * end(record)["kl"]["estimate"] / budget for record in records]
            rows.append(
                [
                    name,
                    f"{budget:,}",
                    f"{mean([record['labels'] for record in records]):.0f}",
                    f"{mean([record['steps'] for record in records]):.0f}",
                    told(rewards),
                    told([one["kl"] for one in ends]),
                    f"{mean(gains):.2f}{spread(gains)}",
                    f"{mean(kls):.1f}{spread(kls)}",
                ]
            )
    header = ["method", "comparisons", "pairs without ties", "steps", "true reward", "KL, nats"]
    header += ["reward gained per 1,000", "nats of KL per 1,000"]
    return {"online-budgets": markdown(header, rows)}


def figures(result: Result) -> dict[str, str]:
    budgets = result["config"]["budgets"]
    series = {}
    for method, name in NAMES.items():
        series[name] = [_mark(budget, _found(result, method, budget)) for budget in budgets]
    figure = scatter_chart(
        series,
        key="online-budgets",
        title="Online against offline DPO by labels spent",
        x_label="comparisons labelled",
        y_label="true reward (VADER compound), mean over seeds",
    )
    return {"online_budgets.svg": svg_file(figure)}


def _mark(budget: int, records: list[Record]) -> DataPoint:
    values = [end(record)["rewards"]["true"]["estimate"] for record in records]
    found = mean_interval(values)
    return DataPoint(budget, None, None, found.estimate, found.low, found.high)
