"""What a config's mixture draws is what a run trains on, with the counts of each source in its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.config.load import config_from_values
from palate.errors import ConfigError
from palate.models.load import load_tokenizer
from palate.text.template import load_template
from palate.training.dataset import RunData, build_data
from palate.training.methods import build_method
from runs import BASE, pairs, write_rows


def built(model: Path, folder: Path, **changed: Any) -> RunData:
    small = write_rows(folder / "small.jsonl", pairs(4, seed=1))
    large = write_rows(folder / "large.jsonl", pairs(20, seed=2))
    given = {"model_name_or_path": str(model), "output_dir": str(folder / "run"), "dataset": [str(small), str(large)]}
    config = config_from_values({**BASE, **given, **changed}, origin="test").config
    return build_data(config, build_method(config), load_template(load_tokenizer(str(model))))


@pytest.mark.parametrize(
    ("changed", "used"),
    [
        ({}, {"small": 4, "large": 20}),
        ({"mix_caps": {"large.jsonl": 5}}, {"small": 4, "large": 5}),
        ({"mix_temperature": 1e9}, {"small": 4, "large": 4}),
        ({"mix_temperature": 1e9, "mix_caps": {"small": 3}}, {"small": 3, "large": 3}),
    ],
)
def test_temperature_and_caps(model: Path, tmp_path: Path, changed: dict[str, Any], used: dict[str, int]) -> None:
    data = built(model, tmp_path, **changed)
    assert {name: source["rows_used"] for name, source in data.report["sources"].items()} == used
    assert len(data.train) == sum(used.values())
    assert data.report["dropped_by_reason"].get("not_drawn", 0) == 24 - sum(used.values())
    again = built(model, tmp_path, **changed)
    assert [group.id for group in again.train] == [group.id for group in data.train]


def test_two_ways_to_mix_are_refused(model: Path, tmp_path: Path) -> None:
    weights = {str(tmp_path / "small.jsonl"): 1, str(tmp_path / "large.jsonl"): 2}
    with pytest.raises(ConfigError, match="mix_temperature and the weights of dataset both set the shares"):
        built(model, tmp_path, dataset=weights, mix_temperature=2)


def test_an_online_run_on_pairs_says_that_it_reads_their_prompts_alone(model: Path, tmp_path: Path) -> None:
    template = load_template(load_tokenizer(str(model)))
    for name, rows, expected in (
        ("pairs", pairs(4), ["pairs: the policy answers its prompts; not trained on: chosen, rejected"]),
        ("prompts", [{"prompt": f"{n} what is it"} for n in range(4)], []),
    ):
        path = write_rows(tmp_path / f"{name}.jsonl", rows)
        given = {**BASE, "stage": "grpo", "rewards": "length:longer", "cutoff_len": 64, "max_new_tokens": 8}
        given |= {"model_name_or_path": str(model), "dataset": str(path), "output_dir": str(tmp_path / "out")}
        del given["reference_cache"]
        config = config_from_values(given).config
        data = build_data(config, build_method(config), template)
        assert data.report.get("notices", []) == expected
        assert ("not trained on: chosen, rejected" in data.summary) is bool(expected)
