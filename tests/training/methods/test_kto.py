"""KTO and its kin on labelled answers: what they read, log and refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.errors import DataError
from palate.models.scoring.logps import Logps
from palate.text.batch import pack
from runs import metrics, run, write_rows
from tiny import method_of, random_groups

ROWS = [
    {"prompt": "why", "completion": "because it is so", "label": True},
    {"prompt": "how", "completion": "not at all", "label": False},
    {"prompt": "what", "completion": "this and that", "label": True},
    {"prompt": "who", "completion": "they were", "label": False},
]


def logps(values: list[float]) -> Logps:
    sums = torch.tensor(values)
    return Logps(sums, torch.full_like(sums, 4.0), sums)


def method(name: str, **options: Any) -> Any:
    return method_of("kto", pref_loss=name, pref_beta=0.5, **options)


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


def test_kto_by_hand() -> None:
    """Two rows, each (own, mismatched): z = β·mean of the mismatched log-ratios, and 1 − σ of the gain or loss."""
    kto = method("kto", kto_rejected_weight=2.0)
    groups = [replace(g, labels=(label,)) for g, label in zip(random_groups(2, 2), (1.0, 0.0), strict=True)]
    policy, reference = logps([-3.0, -7.0, -4.0, -9.0]), logps([-5.0, -8.0, -3.0, -10.0])
    output = kto.loss(policy, reference, pack(groups))
    z = 0.5 * 1.0  # mismatched log-ratios are 1 and 1
    expected = [1 - sigmoid(0.5 * 2.0 - z), 2.0 * (1 - sigmoid(z - 0.5 * -1.0))]
    assert output.loss.tolist() == pytest.approx(expected, rel=1e-6)
    assert output.metrics["kl"].tolist() == [1.0, 1.0]
    assert output.metrics["rewards/chosen"][0].item() == 1.0
    assert output.metrics["rewards/chosen"].isnan().tolist() == [False, True]
    assert output.metrics["rewards/rejected"][1].item() == -0.5
    assert output.metrics["rewards/accuracies"].tolist() == [1.0, 1.0]


def test_a_kl_below_zero_counts_as_zero() -> None:
    groups = [replace(g, labels=(1.0,)) for g in random_groups(2, 2)]
    output = method("kto").loss(logps([-3.0, -9.0, -4.0, -9.0]), logps([-3.0, -8.0, -4.0, -8.0]), pack(groups))
    assert output.metrics["kl"].tolist() == [0.0, 0.0]
    assert output.loss.tolist() == [0.5, 0.5]


def test_bco_shifts_by_the_mean_of_all_rewards_so_far() -> None:
    bco = method("bco")
    groups = [replace(g, labels=(label,)) for g, label in zip(random_groups(2, 1), (1.0, 0.0), strict=True)]
    policy, reference, rows = logps([-3.0, -4.0]), logps([-5.0, -8.0]), pack(groups)
    assert bco.state == {}
    first = bco.loss(policy, reference, rows, training=True).loss
    assert bco.state == {"rewards_seen": 2, "reward_mean": 1.5}  # of 1 and 2
    expected = [-math.log(sigmoid(1.0 - 1.5)), -math.log(sigmoid(1.5 - 2.0))]
    assert first.tolist() == pytest.approx(expected, rel=1e-6)
    bco.loss(logps([-5.0, -8.0]), reference, rows, training=True)
    assert bco.state == {"rewards_seen": 4, "reward_mean": 0.75}
    other = method("bco")
    other.state = bco.state
    assert other.loss(policy, reference, rows).loss.tolist() == bco.loss(policy, reference, rows).loss.tolist()


@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired", "bco"])
def test_a_run_pulls_wanted_and_unwanted_apart(model: Path, tmp_path: Path, name: str) -> None:
    data = write_rows(tmp_path / "rows.jsonl", ROWS)
    run(
        model,
        tmp_path / "run",
        stage="kto",
        pref_loss=name,
        dataset=str(data),
        eval_dataset=str(data),
        per_device_train_batch_size=4,
        num_train_epochs=6,
    )
    rows = metrics(tmp_path / "run")
    assert rows[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    assert rows[-1]["rewards/margins"] > 0.1
    assert rows[-1]["rewards/chosen"] > 0 > rows[-1]["rewards/rejected"]
    assert ("kl" in rows[-1]) == (name == "kto")
    [evaluated] = metrics(tmp_path / "run", "eval")
    assert evaluated["rewards/accuracies"] == 1.0
    assert evaluated["rewards/margins"] == pytest.approx(evaluated["rewards/chosen"] - evaluated["rewards/rejected"])


def test_a_step_of_one_row_has_a_kl(model: Path, tmp_path: Path) -> None:
    """Peers refuse a batch of one or match it with itself."""
    data = write_rows(tmp_path / "rows.jsonl", ROWS)
    changed = {"stage": "kto", "dataset": str(data), "per_device_train_batch_size": 1, "num_train_epochs": 2}
    run(model, tmp_path / "run", **changed)
    rows = metrics(tmp_path / "run")
    assert len(rows) == 8
    assert any(row["kl"] > 0 for row in rows)


def test_a_single_row_is_refused(model: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", ROWS[:1])
    with pytest.raises(DataError, match="at least 2 rows"):
        run(model, tmp_path / "run", stage="kto", dataset=str(data))
    run(model, tmp_path / "other", stage="kto", pref_loss="apo_zero_unpaired", dataset=str(data))
