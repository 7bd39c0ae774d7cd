"""β, learning rate and label noise for sigmoid DPO, cDPO, robust DPO and IPO on the same pairs.

Each sweep changes one of the three around a common setting. Accuracy is measured on held-out pairs whose labels are
clean, whatever was flipped in training.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from _cells import Cell, Record
from _fronts import mean, spread
from _markdown import interval, markdown
from _places import end, place_points, records_of
from _preferences import ReviewConfig, pairs_cell, pairs_file, write_rows
from _runs import check_methods, offline_values
from _trained import train_run
from _world import PRECISION, TEMPLATE, world_cell, world_place
from pydantic import Field, model_validator

from palate.artifacts import plain
from palate.charts import DataPoint, scatter_chart, svg_file
from palate.evaluation.accuracy.evaluate import evaluate
from palate.models.generation.decoding import sampling_seed

Result = Mapping[str, Any]
LOSSES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "sigmoid": ("sigmoid", {"pref_loss": "sigmoid"}),
    "cdpo": ("cDPO", {"pref_loss": "sigmoid"}),
    "robust": ("robust DPO", {"pref_loss": "robust"}),
    "ipo": ("IPO", {"pref_loss": "ipo"}),
}
"""Key → name and config. cDPO is sigmoid with label smoothing; robust takes the same number as the rate of flips."""


class Config(ReviewConfig):
    """What is swept.

    Attributes:
        losses: of `LOSSES`.
        smoothing: dpo_label_smoothing of cDPO and robust, at every noise.
        beta: where another thing is swept.
        ipo_beta: IPO's, whose β has another meaning.
        betas: of the first sweep; IPO's are these times ipo_beta / beta.
        sweep_learning_rates: of the second.
        noise: shares of flipped labels, of the third.
        run_seeds: of each run.
    """

    losses: list[str] = Field(default_factory=lambda: list(LOSSES))
    smoothing: float = Field(0.2, gt=0, lt=0.5)
    beta: float = Field(0.1, gt=0)
    ipo_beta: float = Field(0.1, gt=0)
    betas: list[float]
    sweep_learning_rates: list[float]
    noise: list[float]
    run_seeds: list[int] = Field([0], min_length=1)

    @model_validator(mode="after")
    def _every_loss_is_known(self) -> Self:
        check_methods(self, ["dpo"])
        unknown = next((loss for loss in self.losses if loss not in LOSSES), None)
        if unknown is not None:
            raise ValueError(f"losses: {unknown} is none of {', '.join(LOSSES)}")
        return self


def cells(config: Config, folder: Path) -> list[Cell]:
    """The world, its pairs, and a run for each loss and setting; what two sweeps share is made once."""
    made: dict[str, Cell] = {}
    rate = config.learning_rates["dpo"]
    for loss in config.losses:
        settings = [(beta, rate, 0.0) for beta in config.betas]
        settings += [(config.beta, one, 0.0) for one in config.sweep_learning_rates]
        settings += [(config.beta, rate, flipped) for flipped in config.noise]
        for beta, learning_rate, flipped in settings:
            for seed in config.run_seeds:
                cell = _run(config, folder, loss, beta, learning_rate, flipped, seed)
                made[cell.name] = cell
    return [world_cell(config, folder), pairs_cell(config, folder), *made.values()]


def _run(config: Config, folder: Path, loss: str, beta: float, learning_rate: float, flipped: float, seed: int) -> Cell:
    own = beta * config.ipo_beta / config.beta if loss == "ipo" else beta
    setting = {"loss": loss, "beta": beta, "learning_rate": learning_rate, "noise": flipped, "run_seed": seed}

    def make(at: Path) -> Record:
        given = [json.loads(line) for line in pairs_file(folder).read_text(encoding="utf-8").splitlines()]
        noisy = flip(given, flipped, seed=config.seed)
        changed: dict[str, Any] = {
            **LOSSES[loss][1],
            "pref_beta": own,
            "learning_rate": learning_rate,
            "dataset": str(write_rows(at / "pairs.jsonl", noisy)),
        }
        if loss in ("cdpo", "robust"):
            changed["dpo_label_smoothing"] = config.smoothing
        trained = train_run(offline_values(config, folder, "dpo", own, seed, **changed), at / "run")
        accuracy = evaluate(
            at / "run",
            str(pairs_file(folder, held_out=True)),
            reference=world_place(config, folder) / "sft",
            template=TEMPLATE,
            precision=PRECISION,
        )
        points, texts = place_points(config, folder, [("end", at / "run", 0)], learned=False)
        ends = plain(accuracy.to_json())
        return {
            **setting,
            "own_beta": own,
            **trained,
            "flipped": sum(1 for row, other in zip(given, noisy, strict=True) if row != other),
            "pairs": len(given),
            "accuracy": {name: ends[name] for name in ("implied", "policy", "reference")},
            "points": points,
            "samples": texts[:1],
        }

    settings = {
        **config.shared("epochs", "measured_prompts"),
        **setting,
        "own_beta": own,
        "smoothing": config.smoothing if loss in ("cdpo", "robust") else 0.0,
    }
    name = f"{loss} beta {beta:g} lr {learning_rate:g} noise {flipped:g} seed {seed}"
    return Cell(name, make, settings, needs=("world", "pairs"))


def flip(rows: list[dict[str, Any]], share: float, *, seed: int) -> list[dict[str, Any]]:
    """The pairs with exactly `share` of them, drawn by `seed`, the wrong way round; more noise flips these and more."""
    order = list(range(len(rows)))
    random.Random(sampling_seed(seed, "noise")).shuffle(order)  # noqa: S311
    wrong = set(order[: round(share * len(rows))])
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"], "margin": -row["margin"]} if i in wrong else row
        for i, row in enumerate(rows)
    ]


# ---- tables and figures


def tables(result: Result) -> dict[str, str]:
    config = result["config"]
    beta, rate = config["beta"], config["learning_rates"]["dpo"]
    base = {"beta": beta, "learning_rate": rate, "noise": 0.0}
    return {
        "sweeps-beta": _table(result, "β", "beta", config["betas"], base),
        "sweeps-learning-rate": _table(result, "learning rate", "learning_rate", config["sweep_learning_rates"], base),
        "sweeps-noise": _table(result, "flipped labels", "noise", config["noise"], base),
    }


def figures(result: Result) -> dict[str, str]:
    return {"sweeps_noise.svg": _noise_figure(result)}


def _records(result: Result, loss: str, wanted: Mapping[str, float]) -> list[Record]:
    return records_of(
        result, lambda record: record["loss"] == loss and all(record[key] == value for key, value in wanted.items())
    )


def _table(result: Result, header: str, key: str, values: list[float], base: Mapping[str, float]) -> str:
    rows = []
    for loss in result["config"]["losses"]:
        for value in values:
            found = _records(result, loss, {**base, key: value})
            shown = f"{100 * value:g} %" if key == "noise" else f"{found[0]['own_beta'] if key == 'beta' else value:g}"
            rows.append(
                [
                    LOSSES[loss][0],
                    shown,
                    _accuracy(found, "implied"),
                    _accuracy(found, "policy"),
                    _value([end(record)["rewards"]["true"] for record in found]),
                    _value([end(record)["kl"] for record in found]),
                ]
            )
    columns = ["loss", header, "implied-reward accuracy", "policy accuracy", "true reward", "KL, nats"]
    return markdown(columns, rows, text_columns=2)


def _accuracy(records: list[Record], name: str) -> str:
    """Of one seed with its interval over pairs; of several the mean with the deviation over seeds."""
    values = [record["accuracy"][name] for record in records]
    if len(values) == 1:
        return interval(values[0], 1, percent=True)
    each = [100 * value["estimate"] for value in values]
    return f"{mean(each):.1f} %{spread(each)}"


def _value(values: list[Mapping[str, float]]) -> str:
    each = [value["estimate"] for value in values]
    return interval(values[0]) if len(each) == 1 else f"{mean(each):.2f}{spread(each)}"


def _noise_figure(result: Result) -> str:
    """True reward by the share of flipped labels."""
    config = result["config"]
    series: dict[str, list[DataPoint]] = {}
    for loss in config["losses"]:
        for share in config["noise"]:
            base = {"beta": config["beta"], "learning_rate": config["learning_rates"]["dpo"], "noise": share}
            found = [end(record)["rewards"]["true"] for record in _records(result, loss, base)]
            middle = mean([one["estimate"] for one in found])
            ends = (found[0]["low"], found[0]["high"]) if len(found) == 1 else (None, None)
            series.setdefault(LOSSES[loss][0], []).append(DataPoint(share, None, None, middle, *ends))
    return svg_file(
        scatter_chart(
            series,
            key="sweeps-noise",
            title="True reward by label noise",
            x_label="share of flipped labels in training",
            y_label="true reward (VADER compound), mean over prompts",
        )
    )
