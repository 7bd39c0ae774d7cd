"""Means are over examples: batches, micro-batches and ranks are only ways to add up."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

from palate.text.groups import EncodedGroup
from palate.training.meters import Meter, held_out_rows, standard_errors

CPU = torch.device("cpu")


def test_a_short_last_batch_does_not_count_double() -> None:
    meter = Meter(CPU)
    meter.add({"loss": torch.tensor([1.0, 2.0, 3.0])}, torch.ones(3))
    meter.add({"loss": torch.tensor([10.0])}, torch.ones(1))
    assert meter.means() == {"loss": 4.0}  # the mean of the batches' means would be 6


def test_weights_weigh() -> None:
    meter = Meter(CPU)
    meter.add({"loss": torch.tensor([1.0, 4.0])}, torch.tensor([3.0, 1.0]))
    assert meter.means()["loss"] == pytest.approx((3 * 1 + 4) / 4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_example_of_weight_0_does_not_count_whatever_its_value(value: float) -> None:
    meter = Meter(CPU)
    meter.add({"loss": torch.tensor([2.0, value])}, torch.tensor([1.0, 0.0]))
    assert meter.means() == {"loss": 2.0}


def test_a_metric_that_an_example_lacks_is_a_mean_over_the_others_but_a_loss_stays_nan() -> None:
    meter = Meter(CPU)
    values = torch.tensor([1.0, math.nan, 5.0])
    meter.add({"loss": values, "rewards/kind": values}, torch.tensor([1.0, 7.0, 1.0]))
    means = meter.means()
    assert means["rewards/kind"] == 3.0
    assert math.isnan(means["loss"])


def test_merging_is_adding_and_leaves_the_other_alone() -> None:
    log, step = Meter(CPU), Meter(CPU)
    for value in (1.0, 2.0, 6.0):
        step.add({"loss": torch.tensor([value])}, torch.ones(1))
        log.merge(step)
        assert step.means() == {"loss": value}
        step.reset()
        assert step.means() == {}
    assert log.means() == {"loss": 3.0}


def test_ranks_are_summed_before_dividing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Meter(CPU), Meter(CPU)
    one.add({"loss": torch.tensor([1.0, 2.0, 3.0])}, torch.ones(3))
    other.add({"loss": torch.tensor([10.0, math.nan])}, torch.tensor([1.0, 0.0]))
    tables: list[torch.Tensor] = []
    for meter, total in ((other, lambda table: tables.append(table) or table), (one, lambda table: table + tables[0])):
        monkeypatch.setattr("palate.training.meters.sum_over_ranks", total)
        found = meter.means()
    assert found == {"loss": 4.0}


def test_a_metric_of_repeated_rows_only_is_left_out() -> None:
    meter = Meter(CPU)
    meter.add({"loss": torch.tensor([1.0])}, torch.zeros(1))
    assert meter.means() == {}


def rows(prompts: list[int]) -> list[EncodedGroup]:
    return [EncodedGroup(f"row:{n}", np.array([prompt], dtype=np.int32), ()) for n, prompt in enumerate(prompts)]


def test_the_standard_error_of_rows_with_a_prompt_each_is_that_of_a_mean() -> None:
    values = [1.0, 2.0, 6.0, 3.0]
    found = standard_errors(
        [
            *held_out_rows(rows([1, 2]), {"loss": torch.tensor(values[:2])}, torch.ones(2)),
            *held_out_rows(rows([3, 4, 4]), {"loss": torch.tensor([*values[2:], 99.0])}, torch.tensor([1.0, 1.0, 0.0])),
        ]
    )
    assert (found["rows"], found["prompts"]) == (4, 4)
    assert found["se/loss"] == pytest.approx(statistics.stdev(values) / 2)


def test_rows_of_one_prompt_are_one_cluster() -> None:
    """Every row twice is no more evidence than every row once."""
    values = torch.tensor([1.0, 2.0, 6.0])
    first = standard_errors(held_out_rows(rows([1, 2, 3]), {"margin": values}, torch.ones(3)))
    twice = {"margin": values.repeat_interleave(2)}
    second = standard_errors(held_out_rows(rows([1, 1, 2, 2, 3, 3]), twice, torch.ones(6)))
    assert (second["rows"], second["prompts"]) == (6, 3)
    assert second["se/margin"] == pytest.approx(first["se/margin"])


def test_one_prompt_has_no_standard_error() -> None:
    found = held_out_rows(rows([1, 1]), {"loss": torch.tensor([1.0, 2.0])}, torch.ones(2))
    assert standard_errors(found) == {"rows": 2, "prompts": 1}


def test_a_metric_with_weights_of_its_own_has_its_mean_and_its_standard_error_by_them() -> None:
    values = {"loss": torch.tensor([5.0, 5.0, 5.0]), "kl": torch.tensor([1.0, 4.0, 9.0])}
    own = torch.tensor([2.0, 1.0, 0.0])
    meter = Meter(CPU)
    meter.add(values, torch.ones(3), {"kl": own})
    assert meter.means() == {"loss": 5.0, "kl": pytest.approx((2 * 1 + 4) / 3)}
    found = standard_errors(held_out_rows(rows([1, 2, 3]), values, torch.ones(3), {"kl": own}))
    # The mean is 2: residuals 2·(1 − 2) and 1·(4 − 2), of two prompts; √(2/1 · (4 + 4)) / 3.
    assert (found["rows"], found["se/kl"]) == (3, pytest.approx(4 / 3))
