"""Each problem at a step has its name and remedy; a healthy run has no finding."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from palate.config.stages.health import HealthFields
from palate.errors import TrainingError
from palate.training.health.callbacks import HealthCheck
from palate.training.health.metrics import HealthFinding
from palate.training.health.plateau import StartCheck

CPU = torch.device("cpu")
LOG2 = 0.6931472


def step(**changed: float) -> dict[str, float]:
    names = {"margins": "rewards/margins", "chosen": "rewards/chosen", "rejected": "rewards/rejected"}
    row = {
        "loss": LOG2,
        "learning_rate": 1e-3,
        "rewards/margins": 0.0,
        "rewards/chosen": 0.0,
        "rewards/rejected": 0.0,
        "logps/chosen": -20.0,
        "ref_logps/chosen": -20.0,
    }
    return {**row, **{names.get(name, name): value for name, value in changed.items()}}


@pytest.fixture
def reported() -> list[HealthFinding]:
    return []


@pytest.fixture
def health(reported: list[HealthFinding]) -> Callable[..., HealthCheck]:
    def make(start: StartCheck | None = None, **limits: float) -> HealthCheck:
        return HealthCheck(SimpleNamespace(), HealthFields.model_validate(limits), reported.append, start=start)

    return make


def start(diagnose: Callable[[], Any] = lambda: None, **changed: Any) -> StartCheck:
    return StartCheck(diagnose, lambda: LOG2, **changed)


def test_a_first_margin_that_is_not_0_is_an_error(health: Callable[..., HealthCheck]) -> None:
    with pytest.raises(TrainingError, match=r"first margin must be 0, but it is 0.2500"):
        health(start()).check_step(1, step(margins=0.25, loss=0.57))


def test_a_first_loss_that_is_not_the_known_one_is_an_error(health: Callable[..., HealthCheck]) -> None:
    with pytest.raises(TrainingError, match=r"first loss must be 0.6931 for this objective, but it is 1.0000"):
        health(start()).check_step(1, step(loss=1.0))


def test_a_resumed_run_and_another_reference_may_start_anywhere(
    health: Callable[..., HealthCheck], reported: list[HealthFinding]
) -> None:
    health().check_step(1, step(margins=0.9, loss=0.3))
    assert reported == []


def test_the_plateau_check_runs_only_after_a_rate_above_0(health: Callable[..., HealthCheck]) -> None:
    asked: list[int] = []

    def diagnose() -> tuple[str, bool]:
        asked.append(len(asked))
        return "nothing moves", True

    check = health(start(diagnose))
    check.check_step(1, step(learning_rate=0.0))  # warm-up: nothing can have moved
    check.check_step(2, step())
    assert asked == []
    with pytest.raises(TrainingError, match=r"step 3: .* nothing moves"):
        check.check_step(3, step())


def test_a_plateau_by_rounding_warns_once(health: Callable[..., HealthCheck], reported: list[HealthFinding]) -> None:
    check = health(start(lambda: ("a reason", False)))
    for number in range(1, 5):
        check.check_step(number, step())
    assert [finding.name for finding in reported] == ["invisible_update"]
    assert reported == check.findings


def test_a_policy_that_moves_is_asked_once_and_nothing_is_said(
    health: Callable[..., HealthCheck], reported: list[HealthFinding]
) -> None:
    asked: list[int] = []
    check = health(start(lambda: asked.append(1)))
    for number in range(1, 5):
        check.check_step(number, step())
    assert (len(asked), reported) == (1, [])


def test_values_stored_in_half_precision_may_start_a_rounding_away(health: Callable[..., HealthCheck]) -> None:
    rounded = {"margins": 0.03, "loss": 0.70, "logps/chosen": -20.4}
    with pytest.raises(TrainingError, match="first margin must be 0"):
        health(start()).check_step(1, step(**rounded))
    health(start(exact=False)).check_step(1, step(**rounded))
    with pytest.raises(TrainingError, match="first margin must be 0"):
        health(start(exact=False)).check_step(1, step(**{"logps/chosen": -23.0}))
    with pytest.raises(TrainingError, match="first loss must be"):
        health(start(exact=False)).check_step(1, step(loss=0.95))


def test_a_spike_is_named_and_noise_is_not(health: Callable[..., HealthCheck], reported: list[HealthFinding]) -> None:
    check = health()
    for number in range(1, 41):
        check.check_step(number, step(loss=0.6 + 0.05 * (-1) ** number))
    assert reported == []
    check.check_step(41, step(loss=4.0))
    assert [(finding.name, finding.step) for finding in reported] == [("loss_spike", 41)]
    assert "learning_rate: 1e-7, pref_beta" in reported[0].remedy


def test_a_remedy_names_no_key_that_the_stage_lacks(
    health: Callable[..., HealthCheck], reported: list[HealthFinding]
) -> None:
    check = health()
    for number in range(1, 22):
        check.check_step(number, {"loss": 0.6 if number < 21 else 4.0, "learning_rate": 1e-5})
    assert "learning_rate: 1e-7, max_grad_norm" in reported[0].remedy


def test_chosen_that_falls_is_named_once(health: Callable[..., HealthCheck], reported: list[HealthFinding]) -> None:
    check = health()
    for number in range(1, 80):
        check.check_step(number, step(**{"logps/chosen": -20.0 - number * 0.5}))
    assert [finding.name for finding in reported] == ["chosen_falls"]
    assert "pref_ftx" in reported[0].remedy
    assert reported[0].severity == "warning"


def test_chosen_that_rises_is_well(health: Callable[..., HealthCheck], reported: list[HealthFinding]) -> None:
    check = health()
    for number in range(1, 60):
        check.check_step(number, step(**{"logps/chosen": -20.0 + number}))
    assert reported == []


def stalled(*evaluations: tuple[float, float], **limits: float) -> list[bool]:
    """For each (training margin, held-out accuracy) whether it is a finding."""
    check, found = HealthCheck(SimpleNamespace(), HealthFields.model_validate(limits), lambda _: None), []  # type: ignore[arg-type]
    for number, (margin, accuracy) in enumerate(evaluations):
        for _ in range(10):
            check.check_step(number, {"loss": LOG2, "rewards/margins": margin})
        check.findings.clear()
        check.check_evaluation(number, {"rewards/accuracies": accuracy})
        found.append([finding.name for finding in check.findings] == ["margin_without_gain"])
    return found


def test_margins_without_gain() -> None:
    assert stalled((0.2, 0.5), (0.9, 0.51)) == [False, True], "chance is no gain"
    assert stalled((0.6, 0.7), (1.2, 0.7), (2.0, 0.7)) == [False, False, True], "three times the margin for nothing"
    assert stalled((0.6, 0.7), (1.2, 0.7), (2.0, 0.7), health_margin_growth=1.5) == [False, True, True]
    assert stalled((0.6, 0.7), (2.0, 0.75), (3.0, 0.8)) == [False, False, False]
    assert stalled((0.6, 0.95), (9.0, 0.89)) == [False, True]
    assert stalled((0.6, 0.95), (9.0, 0.95)) == [False, False], "there is little left to gain"
