"""The schedules and their settings are those of transformers."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from palate.config.stages.schedules import BY_EVALUATION, NEEDS, SETTINGS, check_schedule

# Set by the trainer, not by a config.
_GIVEN = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "verbose", "self"}


def signature(schedule: str) -> set[str]:
    from torch.optim.lr_scheduler import ReduceLROnPlateau
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR, SchedulerType

    wrapped: dict[str, Any] = {"reduce_lr_on_plateau": ReduceLROnPlateau, "greedy": GreedyLR}
    function = wrapped.get(schedule) or TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(schedule)]
    return set(inspect.signature(function).parameters) - _GIVEN


def test_every_schedule_of_transformers_is_known_with_its_settings() -> None:
    pytest.importorskip("torch")  # what transformers knows of training
    from transformers.trainer_utils import SchedulerType

    assert set(SETTINGS) == {item.value for item in SchedulerType}
    assert {name: set(settings) for name, settings in SETTINGS.items()} == {name: signature(name) for name in SETTINGS}
    assert {*NEEDS, *BY_EVALUATION} <= set(SETTINGS)


@pytest.mark.parametrize(
    ("schedule", "settings", "said"),
    [
        ("linear", {"min_lr": 0}, "linear has no setting min_lr, it takes none"),
        ("cosine", {"num_cycle": 1}, "it takes num_cycles; did you mean num_cycles?"),
        (
            "cosine_with_min_lr",
            {},
            "needs exactly one of min_lr and min_lr_rate, as lr_scheduler_kwargs: {min_lr: 1e-7}",
        ),
        ("cosine_with_min_lr", {"min_lr": 1e-7, "min_lr_rate": 0.1}, "exactly one"),
        ("warmup_stable_decay", {}, "needs num_decay_steps, as lr_scheduler_kwargs: {num_decay_steps: 100}"),
        ("greedy", {"patience": 3}, "needs min_lr"),
        ("cosine_with_min_lr", {"min_lr": "low"}, "min_lr must be a number, not low"),
        ("warmup_stable_decay", {"num_decay_steps": 9, "decay_type": "steep"}, "must be linear or cosine or 1-sqrt"),
    ],
)
def test_settings_that_do_not_fit_are_refused(schedule: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r"^lr_scheduler_kwargs: ") as caught:
        check_schedule(schedule, settings)
    assert said in str(caught.value)


def test_settings_that_fit_pass() -> None:
    check_schedule("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.5})
    check_schedule("polynomial", {"power": 2.0})
    check_schedule("warmup_stable_decay", {"num_decay_steps": 9, "decay_type": "1-sqrt", "min_lr_ratio": None})
    check_schedule("constant", {})
