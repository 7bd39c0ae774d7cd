"""Rankings: any length, sigmoid at K = 2, and what is logged of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.models.scoring.logps import Logps
from palate.text.batch import pack
from palate.training.methods.ranked import of_others, ordered_share
from runs import distance, metrics, run, write_rows
from tiny import method_of, random_groups

RANKINGS = [
    {"prompt": "why", "completions": ["because it is so", "it is", "no", "said"]},
    {"prompt": "how", "completions": ["by that question", "not at all"]},
    {"prompt": "what", "completions": ["this answer", "the question", "they"]},
]


def method(name: str = "plackett_luce", **options: Any) -> Any:
    return method_of("dpo", pref_loss=name, **options)


def test_two_lengths_in_one_batch_by_hand() -> None:
    groups = [*random_groups(1, 3, seed=1), *random_groups(1, 2, seed=2)]
    policy = torch.tensor([-2.0, -4.0, -3.0, -6.0, -5.0])
    reference = torch.tensor([-3.0, -3.0, -3.0, -5.0, -5.0])
    tokens = torch.full_like(policy, 2.0)
    output = method(pref_beta=1.0).loss(
        Logps(policy, tokens, policy), Logps(reference, tokens, reference), pack(groups)
    )
    # log-ratios 1, −1, 0 and −1, 0
    first = -1 + math.log(math.e + math.exp(-1) + 1) + 1 + math.log(math.exp(-1) + 1)
    second = 1 + math.log(math.exp(-1) + 1)
    assert output.loss.tolist() == pytest.approx([first, second], rel=1e-6)
    assert output.metrics["rewards/chosen"].tolist() == [1.0, -1.0]
    assert output.metrics["rewards/rejected"].tolist() == [-0.5, 0.0]
    # of 1 > −1, 1 > 0 and −1 > 0 the first two hold; of −1 > 0 none
    assert output.metrics["rewards/accuracies"].tolist() == pytest.approx([2 / 3, 0.0])
    assert output.metrics["ref_logps/rejected"].tolist() == [-3.0, -5.0]


def test_shares_and_means_pass_over_what_is_not_there() -> None:
    scores = torch.tensor([[3.0, 1.0, 9.0], [1.0, 1.0, 0.0]])
    present = torch.tensor([[True, True, False], [True, True, True]])
    assert ordered_share(scores, present).tolist() == pytest.approx([1.0, (0.5 + 1 + 1) / 3])
    assert of_others(scores, present).tolist() == [1.0, 0.5]


def test_the_loss_at_start_follows_from_the_length_of_each_ranking() -> None:
    assert method().traits.start_loss(4) == pytest.approx(math.log(24))
    assert method().traits.start_loss(2) == pytest.approx(math.log(2))
    assert method("rrhf").traits.start_loss(4) is None


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_mixed_rankings_with_held_out_ones_of_one_length_train(model: Path, tmp_path: Path, batch: int) -> None:
    """The first loss is that of the step's own rankings, whatever is held out."""
    held_out = write_rows(tmp_path / "held.jsonl", [{**RANKINGS[2], "prompt": f"what {i}"} for i in range(3)])
    train = write_rows(tmp_path / "mixed.jsonl", RANKINGS)
    given = {"dataset": str(train), "eval_dataset": str(held_out), "pref_loss": "plackett_luce", "health": "off"}
    run(model, tmp_path / "run", **given, per_device_train_batch_size=batch, max_steps=1)
    [first] = metrics(tmp_path / "run")
    lengths = [math.log(24), math.log(2), math.log(6)]
    steps = {1: lengths, 2: [(a + b) / 2 for a in lengths for b in lengths if a != b], 3: [sum(lengths) / 3]}
    assert min(abs(first["loss"] - known) for known in steps[batch]) < 1e-4
    assert len(metrics(tmp_path / "run", "eval")) == 1


def test_pairs_as_rankings_are_dpo(model: Path, tmp_path: Path) -> None:
    """Through the config: two runs, the same weights."""
    shape = {"rows": 6, "per_device_train_batch_size": 3, "num_train_epochs": 2, "pref_beta": 0.3}
    run(model, tmp_path / "pairs", **shape)
    run(model, tmp_path / "rankings", **shape, pref_loss="plackett_luce")
    for one, other in zip(metrics(tmp_path / "pairs"), metrics(tmp_path / "rankings"), strict=True):
        assert one.keys() == other.keys()
        for name in sorted(one.keys() - {"split"}):
            assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), name
    assert distance(tmp_path / "pairs", tmp_path / "rankings") < 1e-5


@pytest.mark.parametrize("name", ["plackett_luce", "rrhf"])
def test_a_run_learns_the_order(model: Path, tmp_path: Path, name: str) -> None:
    data = write_rows(tmp_path / "rows.jsonl", RANKINGS)
    run(model, tmp_path / "run", pref_loss=name, dataset=str(data), per_device_train_batch_size=3, num_train_epochs=8)
    rows = metrics(tmp_path / "run")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["rewards/accuracies"] > rows[0]["rewards/accuracies"]
    if name == "plackett_luce":
        assert rows[0]["loss"] == pytest.approx((math.log(24) + math.log(2) + math.log(6)) / 3, rel=1e-5)
