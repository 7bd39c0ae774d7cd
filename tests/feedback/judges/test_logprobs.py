"""Verdicts from probabilities: renormalised over the spellings, never outside [0, 1], unscored below 0.9."""

from __future__ import annotations

import math

import pytest

from palate.feedback.judges.logprobs import verdict_of_tokens
from palate.models.generation.endpoints.completion import TokenChoice
from palate.records import Verdict


def place(*probabilities: tuple[str, float]) -> TokenChoice:
    top = tuple((token, math.log(p)) for token, p in probabilities)
    return TokenChoice(*top[0], top)


def verdict(*places: TokenChoice, ties: bool = False) -> Verdict:
    return verdict_of_tokens(places, ties=ties)


def test_spellings_are_added_and_renormalised() -> None:
    found = verdict(place(("A", 0.5), (" A", 0.1), ("a", 0.06), ("B", 0.2), (' "B', 0.08), ("The", 0.05)))
    assert found.outcome == "left"
    assert found.probability_left == pytest.approx(0.66 / 0.94)
    assert found.reason == f"P(A)={0.66 / 0.94:.4f} P(B)={0.28 / 0.94:.4f}"


def test_a_tie_counts_half_for_each() -> None:
    found = verdict(place(("tie", 0.6), ("A", 0.3), ("B", 0.1)), ties=True)
    assert (found.outcome, found.probability_left) == ("tie", pytest.approx(0.6))
    assert verdict(place(("tie", 0.6), ("A", 0.3), ("B", 0.1))).outcome == "unparsed"  # not offered


def test_little_mass_is_unscored() -> None:
    found = verdict(place(("A", 0.8), ("B", 0.09), ("Both", 0.11)))
    assert (found.outcome, found.probability_left) == ("unparsed", None)
    assert "0.890" in found.reason
    assert verdict(place(("A", 0.8), ("B", 0.1), ("Both", 0.1))).outcome == "left"


@pytest.mark.parametrize("bad", [math.nan, 0.5, math.inf])
def test_what_is_no_probability_is_unscored(bad: float) -> None:
    found = verdict(TokenChoice("A", -0.1, (("A", -0.1), ("B", bad))))
    assert (found.outcome, found.probability_left) == ("unparsed", None)


def test_probabilities_above_one_in_all_are_unscored() -> None:
    found = verdict(TokenChoice("A", 0.0, (("A", 0.0), ("B", -0.1))))
    assert found.outcome == "unparsed"
    assert "add up to 1.905" in found.reason


def test_minus_infinity_is_a_probability_of_zero() -> None:
    found = verdict(TokenChoice("B", 0.0, (("B", 0.0), ("A", -math.inf))))
    assert (found.outcome, found.probability_left) == ("right", 0.0)


def test_the_first_word_after_the_thinking_counts() -> None:
    sure = place(("B", 0.95), ("A", 0.05))
    thought = [place((text, 1.0)) for text in ("<think>", "A", "</think>", "\n\n", '"')]
    assert verdict(*thought, sure).outcome == "right"
    assert verdict(place(("A", 1.0)), sure).outcome == "left"


def test_no_log_probabilities() -> None:
    assert verdict().reason == "no log-probabilities in the reply"
    assert verdict(place(("\n", 1.0))).outcome == "unparsed"


def test_a_sampled_token_outside_the_listed_ones_counts_too() -> None:
    found = verdict(TokenChoice("A", math.log(0.3), (("B", math.log(0.65)),)))
    assert found.probability_left == pytest.approx(0.3 / 0.95)
