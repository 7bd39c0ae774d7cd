"""Which groups form a step depends on seed and epoch, never on memory, ranks or a resume."""

from __future__ import annotations

import pytest
import torch

from palate.text.batch import Batch, cost, micro_batches, pack, pad, score_completions
from palate.training.steps import Groups, StepOrder
from tiny import random_groups

CPU = torch.device("cpu")


def ids(groups: object) -> list[str]:
    return sorted(group.id for group in groups)  # type: ignore[attr-defined]


def test_an_order_is_a_permutation_of_seed_and_epoch() -> None:
    order = StepOrder(50, 1, seed=3)
    first = list(order)
    assert sorted(first) == list(range(50))
    assert list(order) == first
    order.set_epoch(1)
    assert list(order) != first
    assert sorted(order) == list(range(50))
    order.set_epoch(0)
    assert list(order) == first
    assert list(StepOrder(50, 1, seed=4)) != first


def test_without_a_seed_the_dataset_keeps_its_order() -> None:
    assert list(StepOrder(5, 1, seed=None)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("rows", "multiple", "length"), [(11, 4, 12), (12, 4, 12), (1, 4, 4), (9, 1, 9)])
def test_an_order_is_filled_up_with_repeats_after_every_row(rows: int, multiple: int, length: int) -> None:
    order = StepOrder(rows, multiple, seed=0)
    found = list(order)
    assert len(order) == len(found) == length
    assert sorted(found[:rows]) == list(range(rows))
    assert found[rows:] == list(range(rows, length))


def test_the_order_of_real_rows_is_the_same_for_any_number_of_ranks() -> None:
    assert list(StepOrder(11, 4, seed=7))[:11] == list(StepOrder(11, 1, seed=7))


def test_repeats_are_the_rows_again_with_weight_0() -> None:
    groups = random_groups(3)
    dataset = Groups(groups)
    assert len(dataset) == 3
    assert dataset[1] is groups[1]
    repeat = dataset[4]
    assert (repeat.id, repeat.weight) == (groups[1].id, 0.0)
    assert groups[1].weight == 1.0


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("budget", [1, 40, 75, 10_000])
def test_a_budget_splits_and_loses_nothing(packed: bool, budget: int) -> None:
    groups = random_groups(9, seed=2)
    batches = micro_batches(groups, budget, pack if packed else pad, packed=packed)
    assert ids(group for batch in batches for group in batch.groups) == ids(groups)
    for batch in batches:
        assert cost(batch.groups, packed=packed) == batch.input_ids.numel()
        assert batch.input_ids.numel() <= budget or len(batch.groups) == 1
    if budget == 10_000:
        assert len(batches) == 1
    if budget == 1:
        assert len(batches) == len(groups)


def test_a_smaller_budget_never_makes_fewer_passes() -> None:
    groups = random_groups(12, seed=5)
    passes = [len(micro_batches(groups, budget, pack, packed=True)) for budget in (30, 60, 120, 240, 480)]
    assert passes == sorted(passes, reverse=True)
    assert passes[0] > passes[-1]


@pytest.mark.parametrize("packed", [True, False])
def test_scores_come_back_in_the_order_of_the_groups(packed: bool) -> None:
    groups = random_groups(9, seed=2)
    passed: list[int] = []

    def lengths(batch: Batch) -> list[int]:
        return [len(completion.ids) for group in batch.groups for completion in group.completions]

    found = score_completions(groups, lengths, packed=packed, device=CPU, budget=40, advance=passed.append)
    assert found == [[len(completion.ids) for completion in group.completions] for group in groups]
    assert sum(passed) == 9
    assert len(passed) > 1
