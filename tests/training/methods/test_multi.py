"""Multi-objective DPO: scores by dimension, the order that one of them gives, and an accuracy for each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_json
from palate.errors import DataError
from palate.records import Dropped, Message, PreferencePair
from palate.training.methods.multi import ordered_by
from runs import metrics, pairs, run, write_rows

WEIGHTS = {"helpful": 0.6, "safe": 0.4}
SOFT: dict[str, Any] = {"pref_loss": "multi_soft", "dimension_weights": WEIGHTS}
MARGIN: dict[str, Any] = {"pref_loss": "multi_margin", "dimension_weights": WEIGHTS, "dimension": "safe"}


def rows(*dimensions: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Pairs with a `dimensions` column where one is given."""
    made = pairs(len(dimensions))
    return [{**row, **({"dimensions": given} if given else {})} for row, given in zip(made, dimensions, strict=True)]


def scored(**by_dimension: tuple[float, float]) -> dict[str, Any]:
    return {name: {"chosen": high, "rejected": low} for name, (high, low) in by_dimension.items()}


def trained(model: Path, folder: Path, data: list[dict[str, Any]], **changed: Any) -> list[dict[str, Any]]:
    path = write_rows(folder.parent / f"{folder.name}.jsonl", data)
    run(model, folder, dataset=str(path), per_device_train_batch_size=len(data), **changed)
    return metrics(folder)


def test_a_soft_label_weighs_the_dimensions(model: Path, tmp_path: Path) -> None:
    """One pair: the loss is −p·log σ(m) − (1−p)·log σ(−m) of its logged margin m, p by hand."""
    data = rows(scored(helpful=(5, 3), safe=(1, 2)))
    found = trained(model, tmp_path / "counts", data, **SOFT, max_steps=3)
    by_difference = trained(model, tmp_path / "scores", data, **SOFT, dimension_temperature=2.0, max_steps=3)
    for p, history in ((0.6, found), (1 / (1 + math.exp(-(0.6 * 2 - 0.4) / 2)), by_difference)):
        assert history[-1]["rewards/margins"] != 0
        for row in history:
            m = row["rewards/margins"]
            expected = p * math.log1p(math.exp(-m)) + (1 - p) * math.log1p(math.exp(m))
            assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_accuracies_are_told_for_each_dimension(model: Path, tmp_path: Path) -> None:
    data = rows(scored(helpful=(5, 3), safe=(1, 2)), scored(helpful=(5, 3), safe=(2, 2)), scored(helpful=(4, 1)), None)
    last = trained(model, tmp_path / "run", data, **SOFT, num_train_epochs=10)[-1]
    assert last["rewards/accuracies"] == 1.0
    assert last["rewards/accuracies/helpful"] == 1.0  # of three
    assert last["rewards/accuracies/safe"] == 0.0  # of the one that safety does not tie


def test_the_margin_form_is_ordered_by_its_dimension(model: Path, tmp_path: Path) -> None:
    """Swapped where safety prefers the other answer, left out where it ties; the formula on the logged margin."""
    data = rows(scored(helpful=(5, 3), safe=(1, 2)))
    history = trained(model, tmp_path / "run", data, **MARGIN, max_steps=3)
    for row in history:
        # chosen is the safer answer now: helpful differs by 3 − 5
        inner = (row["rewards/margins"] - 0.6 * (3 - 5)) / 0.4
        assert row["loss"] == pytest.approx(math.log1p(math.exp(-inner)), rel=1e-5)
    assert history[-1]["rewards/margins"] > 0


def test_ties_of_the_ordering_dimension_are_listed(model: Path, tmp_path: Path) -> None:
    data = rows(scored(helpful=(5, 3), safe=(2, 1)), scored(helpful=(5, 3), safe=(2, 2)), scored(helpful=(5, 3)))
    trained(model, tmp_path / "run", data, **MARGIN, max_steps=1, max_dropped=0.9)
    report = read_json(tmp_path / "run" / "data.json")
    assert report["records"]["used"] == 1
    assert {row["reason"]: row["id"].split(":")[-1] for row in report["dropped"]} == {
        "tied_dimension": "2",
        "no_dimension": "3",
    }


def test_a_swapped_record_swaps_everything() -> None:
    record = PreferencePair(
        id="a:1",
        prompt=(Message("user", "q"),),
        chosen=(Message("assistant", "good"),),
        rejected=(Message("assistant", "bad"),),
        margin=2.0,
        dimensions={"helpful": (5, 3), "safe": (1, 2)},
    )
    turned = ordered_by("safe", record)
    assert isinstance(turned, PreferencePair)
    assert (turned.chosen, turned.rejected, turned.margin) == (record.rejected, record.chosen, -2.0)
    assert turned.dimensions == {"helpful": (3, 5), "safe": (2, 1)}
    assert ordered_by("safe", turned) is turned
    assert isinstance(ordered_by("safe", PreferencePair(id="b", prompt=(), chosen=(), rejected=())), Dropped)


def test_a_dimension_that_no_row_has_is_named(model: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", rows(scored(helpfull=(5, 3), safe=(1, 2))))
    with pytest.raises(DataError, match=r"no row has scores for helpful; did you mean helpfull\?"):
        run(model, tmp_path / "run", dataset=str(data), **SOFT)
    plain = write_rows(tmp_path / "plain.jsonl", pairs(2))
    with pytest.raises(DataError, match=r'rows have none \(rows need e\.g\. dimensions: \{"helpful"'):
        run(model, tmp_path / "run", dataset=str(plain), **SOFT)
