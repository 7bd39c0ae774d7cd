"""A collapsed run is never headed as a good one, whatever its loss does; a healthy one is not called collapsed."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.report.contents import read_contents
from palate.report.judgements.collapse import at_limit, collapse_symptoms
from palate.report.judgements.directions import directions, verdict
from palate.report.pages.run import run_report
from palate.stats.repetition import repeats
from stage_runs import COLLAPSED, offline_rows, online_rows, write_run


@pytest.mark.parametrize("stage", ["ppo", "grpo"])
def test_a_collapsed_run_is_named_however_its_loss_falls(tmp_path: Path, stage: str) -> None:
    answers = ("Light scatters in the air.", "g g g g g g g g")
    contents = read_contents(write_run(tmp_path, stage, online_rows(**COLLAPSED), answers=answers))
    kind, line = verdict(contents, directions(contents))
    assert kind == "wrong"
    assert line.startswith("The answers have collapsed: 4 of 4 sampled answers repeat themselves to the end")
    for expected in ("g g g g", "entropy collapsed", "answers stopped ending their turn", "reward fell in training"):
        assert expected in line
    page = run_report(contents)
    assert "As expected" not in page
    assert "Nothing wrong was found" not in page


@pytest.mark.parametrize(
    ("metric", "ends", "expected"),
    [
        ("entropy", (2.0, 0.02), "entropy collapsed from 2 to 0.02"),
        ("ended", (0.9, 0.1), "answers stopped ending their turn"),
        ("length", (30.0, 64.0), "answers grew to the length limit, from 30 to 64"),
        ("length", (30.0, 1.0), "answers became empty"),
    ],
)
def test_each_sign_of_sampling_alone(tmp_path: Path, metric: str, ends: tuple[float, float], expected: str) -> None:
    contents = read_contents(write_run(tmp_path, "grpo", online_rows(**{metric: ends})))
    (sign,) = collapse_symptoms(contents)
    assert expected in sign
    assert verdict(contents, directions(contents))[0] == "wrong"


def test_a_reward_that_fell_is_wrong_and_a_large_kl_too(tmp_path: Path) -> None:
    fell = read_contents(write_run(tmp_path / "a", "ppo", online_rows(reward=(1.0, -3.0))))
    kind, line = verdict(fell, directions(fell))
    assert kind == "wrong"
    assert line.startswith("Not as expected: reward fell in training from")
    far = read_contents(write_run(tmp_path / "b", "ppo", online_rows(kl=(0.0, 90.0))))
    kind, line = verdict(far, directions(far))
    assert kind == "wrong"
    assert "nats per token, above health_max_kl 1" in line


def test_a_healthy_run_is_judged_by_its_reward(tmp_path: Path) -> None:
    contents = read_contents(write_run(tmp_path, "grpo", online_rows()))
    assert collapse_symptoms(contents) == []
    assert verdict(contents, directions(contents)) == ("right", "As expected on 40 held-out prompts: reward rose.")
    assert {one.metric for one in directions(contents)} == {"reward"}, "the loss of an online stage says nothing"


def test_repetition_is_seen_in_every_stage(tmp_path: Path) -> None:
    contents = read_contents(write_run(tmp_path, "dpo", offline_rows("dpo"), answers=("Fine.", "yes yes yes yes yes")))
    assert verdict(contents, directions(contents))[0] == "wrong"
    same = read_contents(write_run(tmp_path, "dpo", offline_rows("dpo"), answers=("no no no no no", "no no no no no")))
    assert collapse_symptoms(same) == [], "the reference repeats itself as much"


def test_what_health_saw_counts(tmp_path: Path) -> None:
    finding = {"step": 9, "name": "entropy_collapse", "message": "entropy fell from 2.00 to 0.10 nats per token"}
    contents = read_contents(write_run(tmp_path, "dpo", offline_rows("dpo"), health=[finding]))
    assert collapse_symptoms(contents) == [
        "entropy collapsed (health, step 9: entropy fell from 2.00 to 0.10 nats per token)"
    ]


def test_answers_at_the_limit_from_the_start_are_a_note(tmp_path: Path) -> None:
    contents = read_contents(write_run(tmp_path, "ppo", online_rows(ended=(0.0, 0.0), length=(64.0, 64.0))))
    assert collapse_symptoms(contents) == []
    assert "of the sampled answers are truncated at max_new_tokens (64 tokens)" in at_limit(contents)
    kind, line = verdict(contents, directions(contents))
    assert kind == "right"
    assert "are truncated at max_new_tokens (64 tokens)." in line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g g g g", True),
        ("Well, 66666666", True),
        ("the cat sat. the cat sat. the cat sat. the cat sat. the ca", True),
        ("好的好的好的好的", True),
        ("Hmm....", False),
        ("no no", False),
        ("", False),
        ("The river runs through the town and into the sea.", False),
    ],
)
def test_what_repeats_itself(text: str, expected: bool) -> None:
    assert repeats(text) is expected
