"""What of answers is a sign, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palate.config.stages.health import HealthFields
from palate.training.health.degradation import Vitals, distinct_2, loops, signs, vitals

HEALTHY = Vitals(length=20.0, distinct_2=0.9, loops=0.0, ended=0.75, entropy=2.0)


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


def test_vitals_of_answers() -> None:
    found = vitals([[1, 2, 0], [7] * 9, [3, 4, 5]], [0], [-3.0, -9.0, -4.5], [-4.0, -8.0, -7.5])
    assert (found.length, found.loops, found.ended) == (5.0, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert found.distinct_2 == pytest.approx((1 + 1 / 8 + 1) / 3)
    assert found.entropy == pytest.approx(16.5 / 15)
    assert (found.kl, found.kl_per_token) == (pytest.approx((1 - 1 + 3) / 3), pytest.approx(3 / 15))
    assert found.metrics()["health/kl"] == found.kl


def test_without_a_reference_there_is_no_kl() -> None:
    found = vitals([[1, 2]], [0], [-3.0])
    assert (found.kl, found.kl_per_token) == (None, None)
    assert not [name for name in found.metrics() if "kl" in name]
    assert not list(signs(found, found, HealthFields()))


def test_vitals_are_read_back_from_a_row_of_the_log() -> None:
    found = vitals([[1, 2]], [0], [-3.0], [-3.5])
    assert Vitals.logged({"loss": 0.1, **found.metrics()}) == found
    assert Vitals.logged({"loss": 0.1}) is None


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
def test_each_sign_has_its_name_and_a_remedy(changed: dict[str, float], name: str) -> None:
    (sign,) = signs(replace(HEALTHY, **changed), HEALTHY, HealthFields())
    assert sign.name == name
    assert sign.remedy


def test_small_changes_are_no_signs_and_limits_can_be_moved() -> None:
    near = replace(HEALTHY, kl=16.0, kl_per_token=0.8, loops=0.2, distinct_2=0.6, ended=0.5, length=30.0, entropy=0.6)
    assert not list(signs(near, HEALTHY, HealthFields()))
    strict = HealthFields(health_max_kl=0.5, health_length_ratio=1.2)
    assert [sign.name for sign in signs(near, HEALTHY, strict)] == ["far_from_reference", "length_drift"]
