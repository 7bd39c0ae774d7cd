"""Signatures estimate Jaccard similarity without bias, and near-duplicates are found whatever the order."""

from __future__ import annotations

import random

import numpy as np
import pytest

from palate.data.measures.similarity import (
    band_keys,
    estimate,
    near_duplicates,
    ngram_hashes,
    overlap,
    signature,
)

WORDS = [f"{a}{b}{c}" for a in "bdfklmn" for b in "aeiou" for c in ("r", "st", "nd", "")]


def text(seed: int, words: int = 60) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def changed(original: str, share: float, seed: int) -> str:
    chance = random.Random(seed)
    return " ".join("zzzz" if chance.random() < share else word for word in original.split())


def jaccard(left: str, right: str) -> float:
    windows = [{side[start : start + 8] for start in range(len(side) - 7)} for side in (left, right)]
    return len(windows[0] & windows[1]) / len(windows[0] | windows[1])


@pytest.mark.parametrize("words", [8, 30, 200])
def test_the_estimate_is_unbiased(words: int) -> None:
    errors = []
    for seed in range(200):
        left = text(seed, words)
        right = changed(left, random.Random(seed).random() * 0.3, seed)
        errors.append(estimate(signature(left), signature(right)) - jaccard(left, right))
    # 200 estimates, each with a standard error of at most 0.06: their mean is within 0.0042 × 3 of 0.
    assert abs(np.mean(errors)) < 0.013
    assert np.std(errors) < 0.07


def test_equal_texts_have_equal_signatures_in_any_script() -> None:
    for spelling in ("Hello  World", "ＨＥＬＬＯ world\n", "hello world"):
        assert (signature(spelling) == signature("hello world")).all()
    assert estimate(signature("今天天气怎么样？我想出去走走。"), signature("量子力学是研究微观粒子的学科。")) < 0.1
    assert signature("").shape == signature("x").shape == (128,)


def test_near_duplicates_are_grouped_and_others_are_not() -> None:
    originals = [text(seed, 120) for seed in range(300)]
    copies = [changed(originals[index], 0.01, index) for index in range(0, 300, 3)]
    everything = originals + copies
    order = random.Random(0).sample(range(len(everything)), len(everything))
    groups = near_duplicates([signature(everything[index]) for index in order], threshold=0.8)
    group_of = {index: groups[place] for place, index in enumerate(order)}
    alike = [jaccard(originals[3 * n], copies[n]) for n in range(100)]
    found = [group_of[3 * n] == group_of[300 + n] for n in range(100)]
    # Far above the threshold all are found; the rest stays apart.
    assert all(hit for hit, similarity in zip(found, alike) if similarity > 0.9)
    assert sum(found) >= 80
    assert len(set(group_of.values())) == 400 - sum(found)
    assert all(group <= place for place, group in enumerate(groups))


def test_chains_of_near_duplicates_are_one_group() -> None:
    first = text(1, 200)
    words = first.split()
    chain = [first]
    for place in range(0, 60, 12):
        words[place] = "zzzz"
        chain.append(" ".join(words))
    assert set(near_duplicates([signature(link) for link in chain], 0.8)) == {0}


def test_similar_texts_share_a_band() -> None:
    left = text(5, 200)
    right = changed(left, 0.02, 5)
    assert set(band_keys(signature(left))) & set(band_keys(signature(right)))
    assert not set(band_keys(signature(left))) & set(band_keys(signature(text(6, 200))))


def test_runs_of_words() -> None:
    base = " ".join(f"w{n}" for n in range(20))
    assert len(ngram_hashes(base, 13)) == 8
    assert ngram_hashes(f"before {base} after", 13) >= ngram_hashes(base, 13)
    assert len(ngram_hashes("two words", 13)) == 1
    assert ngram_hashes(" ", 13) == set()
    assert overlap({"a", "b"}, {"b", "c"}) == pytest.approx(1 / 3)
    assert overlap(set(), set()) == 0
