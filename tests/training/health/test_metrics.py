"""Which values of answers are findings, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.config.stages.health import HealthFields
from palate.report.health_metrics import _COLUMNS
from palate.training.health.metrics import RULES, HealthMetrics, distinct_2, exceeded, loops, measure_answers

HEALTHY = HealthMetrics(length=20.0, distinct_2=0.9, loops=0.0, ended=0.75, entropy=2.0)


def findings(now: HealthMetrics, before: HealthMetrics, limits: HealthFields) -> list[tuple[str, str]]:
    found = exceeded(now.to_log(), before.to_log(), limits)
    return [(rule.finding, remedy) for rule, message, remedy in found if message]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 3] + [7] * 8, True),
        ([7] * 7, False),
        ([9, 9, 9] + [1, 2] * 4, True),
        ([1, 2] * 3, False),
        ([5] + [1, 2, 3, 4, 5, 6, 7, 8] * 4, True),
        ([1, 2] * 4 + [3], False),
        ([], False),
    ],
)
def test_a_loop_is_found_at_the_end(ids: list[int], expected: bool) -> None:
    assert loops(ids) is expected


def test_distinct_pairs() -> None:
    assert distinct_2([1, 2, 1, 2, 1]) == 0.5
    assert distinct_2([1]) == 1.0


def test_metrics_of_answers() -> None:
    found = measure_answers([[1, 2, 0], [7] * 9, [3, 4, 5]], [0], [-3.0, -9.0, -4.5], [-4.0, -8.0, -7.5])
    assert (found.length, found.loops, found.ended) == (5.0, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found.distinct_2 == pytest.approx((1 + 1 / 8 + 1) / 3)
    assert found.entropy == pytest.approx(16.5 / 15)
    assert (found.kl, found.kl_per_token) == (pytest.approx((1 - 1 + 3) / 3), pytest.approx(3 / 15))
    assert found.to_log()["health/kl"] == found.kl


def test_without_a_reference_there_is_no_kl() -> None:
    found = measure_answers([[1, 2]], [0], [-3.0])
    assert (found.kl, found.kl_per_token) == (None, None)
    assert not [name for name in found.to_log() if "kl" in name]
    assert not findings(found, found, HealthFields())


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"kl": 24.0, "kl_per_token": 1.2}, "far_from_reference"),
        ({"loops": 0.3}, "repetition"),
        ({"distinct_2": 0.4}, "repetition"),
        ({"ended": 0.3}, "turns_do_not_end"),
        ({"length": 45.0}, "length_drift"),
        ({"length": 8.0}, "length_drift"),
        ({"entropy": 0.4}, "entropy_collapse"),
    ],
)
def test_each_finding_has_its_name_and_a_remedy(changed: dict[str, float], name: str) -> None:
    ((finding, remedy),) = findings(replace(HEALTHY, **changed), HEALTHY, HealthFields())
    assert finding == name
    assert remedy


def test_small_changes_are_no_findings_and_limits_can_be_moved() -> None:
    near = replace(HEALTHY, kl=16.0, kl_per_token=0.8, loops=0.2, distinct_2=0.6, ended=0.5, length=30.0, entropy=0.6)
    assert not findings(near, HEALTHY, HealthFields())
    strict = HealthFields(health_max_kl=0.5, health_length_ratio=1.2)
    assert [name for name, _ in findings(near, HEALTHY, strict)] == ["far_from_reference", "length_drift"]


@pytest.mark.parametrize(("correlation", "words"), [(0.8, "longer"), (-0.8, "shorter"), (0.6, None), (None, None)])
def test_a_strong_correlation_is_a_finding(correlation: float | None, words: str | None) -> None:
    values = {} if correlation is None else {"health/length_correlation": correlation}
    found = [message for _, message, _ in exceeded(values, {}, HealthFields())]
    assert len(found) == (words is not None)
    assert all(str(words) in message for message in found)


def test_config_table_and_report_name_the_same_metrics() -> None:
    """Config and report cannot import the table, so this holds them together."""
    not_thresholds = {"health", "health_prompts", "health_max_new_tokens"}
    assert {rule.limit for rule in RULES if isinstance(rule.limit, str)} == set(
        HealthFields.model_fields
    ) - not_thresholds
    measured = {*HealthMetrics.__dataclass_fields__, "length_correlation"}
    assert set(_COLUMNS) == measured
    compared = {rule.metric.removeprefix("health/") for rule in RULES if rule.metric.startswith("health/")}
    assert compared == measured - {"kl"}, "the KL per answer is only shown"
