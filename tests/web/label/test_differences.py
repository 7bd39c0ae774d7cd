"""Word-level differences against values derived by hand."""

from __future__ import annotations

import random

import pytest

from palate.errors import UsageError
from palate.web.label.differences import MOST_WORDS, WordRun, differences, marked


def test_the_words_that_differ_are_marked_in_both_texts() -> None:
    first, second = differences("The cat sat on the mat.", "The dog sat on the mat today.")
    assert first == [
        WordRun("The ", False),
        WordRun("cat ", True),
        WordRun("sat on the ", False),
        WordRun("mat.", True),
    ]
    assert second == [
        WordRun("The ", False),
        WordRun("dog ", True),
        WordRun("sat on the ", False),
        WordRun("mat today.", True),
    ]


def test_white_space_is_kept_and_is_no_difference() -> None:
    first, second = differences("  one two\n\nthree ", "  one  two three")
    assert "".join(run.text for run in first) == "  one two\n\nthree "
    assert "".join(run.text for run in second) == "  one  two three"
    assert not any(run.differs for run in [*first, *second])


def test_a_single_shared_word_between_differences_counts_as_different() -> None:
    first, second = differences("red a green", "blue a black")
    assert first == [WordRun("red a green", True)]
    assert second == [WordRun("blue a black", True)]
    first, _ = differences("red a b green", "blue a b black")
    assert first == [WordRun("red ", True), WordRun("a b ", False), WordRun("green", True)]


@pytest.mark.parametrize("texts", [("", ""), ("", "word"), ("word", ""), ("same text", "same text")])
def test_empty_and_equal_texts(texts: tuple[str, str]) -> None:
    first, second = differences(*texts)
    assert "".join(run.text for run in first) == texts[0]
    assert "".join(run.text for run in second) == texts[1]
    assert any(run.differs for run in [*first, *second]) == (texts[0] != texts[1])


def test_both_texts_share_the_same_words_and_lose_none() -> None:
    rng = random.Random(3)
    for _ in range(200):
        texts = [" ".join(rng.choice("abcd") for _ in range(rng.randint(0, 30))) for _ in range(2)]
        first, second = differences(*texts)
        assert ["".join(run.text for run in runs) for runs in (first, second)] == texts
        shared = [" ".join("".join(run.text for run in runs if not run.differs).split()) for runs in (first, second)]
        assert shared[0] == shared[1]


def test_a_text_with_words_left_out_has_nothing_of_its_own() -> None:
    words = [f"w{number}" for number in range(60)]
    shorter = words[:20] + words[25:50]  # runs of 20 and 25: no island
    first, second = differences(" ".join(words), " ".join(shorter))
    assert [run.differs for run in second] == [False]
    assert [run.text.split() for run in first if run.differs] == [words[20:25], words[50:]]


def test_marked_text_is_escaped_and_not_by_colour_alone() -> None:
    first, second = differences("see <b>x</b> now ok", "see <script> now ok")
    html = marked(first, "first")
    assert html == 'see <del><span class="visually-hidden">only in A: </span>&lt;b&gt;x&lt;/b&gt; </del>now ok'
    assert (
        marked(second, "second")
        == 'see <ins><span class="visually-hidden">only in B: </span>&lt;script&gt; </ins>now ok'
    )


def test_texts_that_are_too_long_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="too long to compare: more than 20,000 words"):
        differences("word " * (MOST_WORDS + 1), "word")
