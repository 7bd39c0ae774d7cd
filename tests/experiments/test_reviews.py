"""The grammar of reviews and the reward that reads them."""

from __future__ import annotations

import math
import re

import pytest
import yaml
from _reviews import _FOLDER, DOMAINS, reviews
from _reward import score, sentiment

from palate.records import Message


@pytest.mark.parametrize("domain", DOMAINS)
def test_reviews_are_seeded_and_no_two_begin_alike(domain: str) -> None:
    found = reviews(domain, 600, 3)
    assert found == reviews(domain, 600, 3)
    assert found[:50] == reviews(domain, 50, 3)
    assert len({review.prompt for review in found}) == len({review.text for review in found}) == 600
    assert not {review.text for review in found} >= {review.text for review in reviews(domain, 600, 4)}


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_prompt_is_the_first_words_of_its_review(domain: str) -> None:
    for review in reviews(domain, 300, 0):
        words = review.text.split(" ")
        assert review.prompt.split(" ") == words[: review.words]
        assert 1 <= review.words <= 8
        assert review.prompt + review.completion == review.text
        assert review.completion.startswith(" ")
        assert len(words) - review.words >= 2


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_review_reads_as_sentences_without_a_slot_left(domain: str) -> None:
    for review in reviews(domain, 300, 1):
        assert "{" not in review.text
        assert "  " not in review.text
        assert review.text.endswith(".")
        assert all(sentence[0].isupper() for sentence in review.text[:-1].split(". "))


def test_the_two_domains_have_words_of_their_own() -> None:
    films, meals = (
        {word for one in reviews(name, 800, 0) for word in re.findall(r"\w+", one.text)} for name in DOMAINS
    )
    assert {"sequel", "camera", "trailer", "director"} <= films - meals
    assert {"waiter", "soup", "dumplings", "bistro"} <= meals - films


@pytest.mark.parametrize("domain", DOMAINS)
def test_reviews_are_of_mixed_sentiment(domain: str) -> None:
    scores = [score(review.text) for review in reviews(domain, 1500, 0)]
    mean = sum(scores) / len(scores)
    assert abs(mean) < 0.15
    assert sum(one > 0.3 for one in scores) > 400
    assert sum(one < -0.3 for one in scores) > 400


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_slot_of_a_frame_is_a_list_of_the_file(domain: str) -> None:
    parts = yaml.safe_load((_FOLDER / f"{domain}.yaml").read_text(encoding="utf-8"))
    known = {*parts, "tone", "good", "bad", "act", "end", "denied"}
    frames = [
        frame for kind in ("opening", "said", "acted", "hedged", "denied", "mixed", "closing") for frame in parts[kind]
    ]
    assert {slot for frame in frames for slot in re.findall(r"\{(\w+)\}", frame)} <= known
    assert all(isinstance(value, str) for values in parts.values() for value in values)


def test_the_reward_is_vaders_compound_of_the_whole_text() -> None:
    """The lexicon gives wonderful 2.7 and awful −2.0; the compound is s / √(s² + 15)."""
    prompts = [(Message("user", "The plot was"),)] * 3
    found = sentiment(prompts, [" wonderful.", " awful.", " in black."])
    assert found[0] == pytest.approx(2.7 / math.sqrt(2.7**2 + 15), abs=1e-4)
    assert found[1] == pytest.approx(-2.0 / math.sqrt(2.0**2 + 15), abs=1e-4)
    assert found[2] == 0.0


def test_a_negation_in_the_prompt_turns_the_completion() -> None:
    plain, denied = ((Message("user", text),) for text in ("The plot was", "The plot was not"))
    assert sentiment([plain], [" wonderful."])[0] > 0 > sentiment([denied], [" wonderful."])[0]
