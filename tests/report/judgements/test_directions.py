"""A curve that goes the wrong way is named; noise is not taken for a direction."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from palate.artifacts import read_jsonl
from palate.report.contents import read_contents
from palate.report.judgements.directions import by_metric, directions, judge, verdict


def test_a_few_noisy_steps_say_nothing() -> None:
    assert judge([], 1)[2] == "unknown"
    assert judge([0.0, -1.0, -2.0, -3.0, -4.0], 1)[2] == "unknown"
    assert judge([0.0, 0.1, -0.1, -4.0, -4.1, -4.2], 1)[2] == "wrong"
    assert judge([0.0, 2.0, -2.0, -1.0, 1.5, -2.5], 1)[2] == "unclear"
    assert judge([*range(50)], 1)[2] == "right"
    assert judge([*range(50)], -1)[2] == "wrong"


def test_pure_noise_is_rarely_called_a_direction() -> None:
    noise = random.Random(0)
    called = sum(judge([noise.gauss(0, 1) for _ in range(100)], 1)[2] != "unclear" for _ in range(1_000))
    assert 20 <= called <= 80


def test_start_and_end_are_the_outer_fifths() -> None:
    assert judge([1.0] * 10 + [9.0] * 30 + [3.0] * 10, 1)[:2] == (1.0, 3.0)


def test_a_healthy_run(make_run: Callable[..., Path], tmp_path: Path) -> None:
    judged = directions(read_contents(make_run(tmp_path)))
    assert {one.verdict for one in judged} == {"right"}
    assert len(by_metric(judged)) == 5
    kind, line = verdict(read_contents(tmp_path), judged)
    assert kind == "right"
    assert line.startswith("As expected on 24 held-out pairs of 24 prompts: loss fell, reward of chosen rose")


def rewrite(run: Path, change: Callable[[dict[str, float]], None]) -> None:
    import json

    rows = read_jsonl(run / "metrics.jsonl")
    for row in rows:
        change(row)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_falling_chosen_reward_is_named_with_its_remedy(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rewrite(run, lambda row: row.update({"rewards/chosen": -row["rewards/chosen"]}))
    judged = directions(read_contents(run))
    wrong = [one for one in judged if one.verdict == "wrong"]
    assert {(one.metric, one.split) for one in wrong} == {("rewards/chosen", "train"), ("rewards/chosen", "eval")}
    assert "pref_ftx" in wrong[0].expected.advice
    kind, line = verdict(read_contents(run), judged)
    assert (kind, line) == ("wrong", "Not as expected on 24 held-out pairs of 24 prompts: reward of chosen fell.")


def test_held_out_rows_decide(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Overfitting: training goes well while the held-out loss rises."""
    run = make_run(tmp_path)

    def overfit(row: dict[str, float]) -> None:
        if row["split"] == "eval":
            row["loss"] = 0.69 + 0.01 * row["step"]

    rewrite(run, overfit)
    judged = directions(read_contents(run))
    assert {one.verdict for one in judged if one.split == "train"} == {"right"}
    said = verdict(read_contents(run), judged)
    assert said == ("wrong", "Not as expected on 24 held-out pairs of 24 prompts: loss rose.")


def test_one_evaluation_is_compared_with_the_start_that_is_known(make_run: Callable[..., Path], tmp_path: Path) -> None:
    judged = directions(read_contents(make_run(tmp_path, evaluate_every=80)))
    held_out = {one.metric: one for one in judged if one.split == "eval"}
    assert held_out["rewards/chosen"].start == 0.0
    assert held_out["rewards/chosen"].verdict == "right"
    assert held_out["rewards/accuracies"].start == 0.5
    assert held_out["loss"].verdict == "unknown"  # where held-out loss began, nothing says


def test_the_interval_of_a_known_start_is_that_of_the_end(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Student's t with 23 degrees of freedom at 97.5 % is 2.0687."""
    judged = directions(read_contents(make_run(tmp_path)))
    (margin,) = [one for one in judged if one.split == "eval" and one.metric == "rewards/margins"]
    assert margin.end == pytest.approx(1.45)
    assert margin.change == pytest.approx((1.45 - 2.0687 * 0.07, 1.45 + 2.0687 * 0.07), abs=1e-4)


def test_an_interval_that_includes_no_change_is_too_few_to_say(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rewrite(run, lambda row: row.update({name: 10.0 for name in row if name.startswith("se/")}))
    kind, line = verdict(read_contents(run), directions(read_contents(run)))
    assert kind == "unclear"
    assert line.startswith(
        "Inconclusive on 24 held-out pairs of 24 prompts: every 95 % interval includes no change. As expected in "
        "training: loss fell"
    )


def test_nothing_is_concluded_from_four_prompts(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rewrite(run, lambda row: row.update({"rows": 9, "prompts": 4} if row["split"] == "eval" else {}))  # type: ignore[comparison-overlap]
    kind, line = verdict(read_contents(run), directions(read_contents(run)))
    assert kind == "unclear"
    assert line.startswith("Inconclusive on 9 held-out pairs of 4 prompts: fewer than 10 prompts.")


def test_without_standard_errors_held_out_rows_say_nothing(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path)
    rewrite(run, lambda row: [row.pop(name) for name in list(row) if name.startswith("se/")] and None)
    kind, line = verdict(read_contents(run), directions(read_contents(run)))
    assert kind == "unclear"
    assert "the evaluations logged no standard errors" in line


def test_nothing_logged(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run(tmp_path, steps=1)
    assert verdict(read_contents(run), directions(read_contents(run)))[0] == "unknown"
    (run / "metrics.jsonl").unlink()
    assert directions(read_contents(run)) == []
