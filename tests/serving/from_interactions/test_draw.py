"""Samples for labelling have the inclusion probabilities that are stored with them, and nobody sways the data."""

from __future__ import annotations

import random

import numpy as np
import pytest

from palate.records import LabelledCompletion
from palate.serving.from_interactions.draw import SHARES, STRATA, draw
from palate.serving.from_interactions.rows import _largest_cap, capped

IDS = [f"i{number:03d}" for number in range(100)]
WITHIN = {"uniform": IDS, "judge_uncertain": set(IDS[:20]), "thumbs_down": set(IDS[10:40])}


def test_a_row_is_drawn_as_often_as_its_probability_says() -> None:
    # 20 of 100, 10 of 20, 10 of 30.
    expected = [1 - 0.8 * (0.5 if n < 20 else 1) * (2 / 3 if 10 <= n < 40 else 1) for n in range(100)]
    counts = np.zeros(100)
    runs = 1500
    for seed in range(runs):
        for row, drawn in draw(WITHIN, 40, SHARES, seed).items():
            number = IDS.index(row)
            counts[number] += 1
            assert drawn.probability == pytest.approx(expected[number])
            assert drawn.strata == tuple(name for name in STRATA if name in drawn.strata)
    off = (counts / runs - expected) / np.sqrt(np.multiply(expected, 1 - np.array(expected)) / runs)
    assert abs(off).max() < 4.5


def test_weights_by_the_probability_estimate_a_mean_without_bias() -> None:
    values = {row: float(number < 20) for number, row in enumerate(IDS)}  # what judges are uncertain of
    estimates = []
    for seed in range(2000):
        drawn = draw(WITHIN, 40, SHARES, seed)
        estimates.append(sum(values[row] / one.probability for row, one in drawn.items()) / len(IDS))
    assert np.mean(estimates) == pytest.approx(0.2, abs=4 * np.std(estimates) / np.sqrt(2000))


def test_an_empty_stratum_gives_its_share_to_the_uniform_one() -> None:
    drawn = draw({"uniform": IDS, "judge_uncertain": (), "thumbs_down": ()}, 40, SHARES, 0)
    assert len(drawn) == 40
    assert [one.probability for one in drawn.values()] == pytest.approx([0.4] * 40)
    assert len(draw({"uniform": IDS[:3], "judge_uncertain": (), "thumbs_down": ()}, 40, SHARES, 0)) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 14])
def test_no_more_rows_are_drawn_than_were_asked_for(size: int) -> None:
    apart = {"uniform": IDS, "judge_uncertain": IDS[:50], "thumbs_down": IDS[50:]}
    for seed in range(20):
        drawn = draw(apart, size, SHARES, seed).values()
        assert sum(len(one.strata) for one in drawn) == size


class _Row:
    """What `capped` reads of an interaction."""

    def __init__(self, person: str) -> None:
        self.person = person


def cap(rows: list[tuple[str, str, bool]], seed: int = 0) -> list[bool]:
    """Labels of the rows (person, id, label) that stay."""
    answers = [LabelledCompletion(id=name, prompt=(), completion=(), desirable=up) for _, name, up in rows]
    found, _, _ = capped(list(zip((_Row(person) for person, _, _ in rows), answers)), 0.01, seed)  # type: ignore[misc]
    return [answer.desirable for _, answer in found]


@pytest.mark.parametrize("spam", [1, 30, 1000, 20_000])
@pytest.mark.parametrize("label", [False, True])
def test_a_spammer_moves_the_share_by_less_than_a_percent(spam: int, label: bool) -> None:
    rng = random.Random(4)
    honest = [
        (f"p{person}", f"p{person}-{number}", rng.random() < 0.7)
        for person in range(150)
        for number in range(1 + int(rng.paretovariate(1.2)) % 60)
    ]
    spammed = [*honest, *(("spammer", f"s{number}", label) for number in range(spam))]
    assert abs(np.mean(cap(spammed)) - np.mean(cap(honest))) < 0.01


def test_the_cap_is_the_largest_that_the_share_allows() -> None:
    counts = [1000, *[3] * 400]  # c ≤ 0.01 · (c + 1200) for c ≤ 12
    assert _largest_cap(counts, 0.01) == 12
    assert _largest_cap([5, 5], 0.01) == 1
    assert _largest_cap([5, 7], 1.0) == 7
    assert _largest_cap([], 0.01) == 1
