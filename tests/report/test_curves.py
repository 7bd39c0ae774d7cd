"""Which charts a run gets, and that none hides a gap or a spike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from palate.report.contents import RunContents, read_contents
from palate.report.curves import Drawing, accuracy_chart, binned, lead_charts, more_charts, overlaid
from stage_runs import offline_rows, online_rows, write_run

ALL = [
    "Loss",
    "Rewards",
    "Reward margin",
    "Pairs ranked as labelled",
    "Log-probability against the reference",
    "Gradient norm before clipping",
    "Learning rate",
]


def charts(contents: RunContents) -> list[Drawing]:
    return [*lead_charts(contents), *more_charts(contents)]


def contents_of(path: Path, rows: list[dict[str, object]]) -> RunContents:
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text("{}")
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_contents(path)


def test_a_whole_run_has_all_charts(make_run: Callable[..., Path], tmp_path: Path) -> None:
    drawn = charts(read_contents(make_run(tmp_path)))
    assert [title for title, _ in drawn] == ALL
    ids = [ElementTree.fromstring(svg)[0].get("id") for _, svg in drawn]
    assert len(set(ids)) == len(ids)


def test_only_what_was_logged_is_drawn(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"step": n, "split": "train", "loss": 1 / n} for n in (1, 2, 3)]
    assert [title for title, _ in charts(contents_of(tmp_path, rows))] == ["Loss"]
    assert charts(contents_of(tmp_path, [])) == []


def test_log_probabilities_are_compared_with_the_reference_on_the_same_answers(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"step": n, "logps/chosen": -50.0 - n, "ref_logps/chosen": -60.0} for n in (1, 2)]
    drift = dict(charts(contents_of(tmp_path, rows)))["Log-probability against the reference"]
    assert "chosen goes from 9 at step 1 to 8 at step 2" in drift


def test_without_a_reference_only_held_out_answers_are_compared(tmp_path: Path) -> None:
    """Training steps see other answers each, so the difference of two of them is a difference of answers."""
    train: list[dict[str, object]] = [{"step": n, "logps/chosen": -50.0 * n} for n in (1, 2)]
    held_out: list[dict[str, object]] = [{"step": n, "split": "eval", "logps/chosen": -40.0 + n} for n in (1, 2)]
    assert "Log-probability of held-out answers" not in dict(charts(contents_of(tmp_path / "a", train)))
    drift = dict(charts(contents_of(tmp_path / "b", train + held_out)))["Log-probability of held-out answers"]
    assert "chosen, held-out goes from 0 at step 1 to 1 at step 2." in drift


def test_one_value_is_a_number_and_no_chart(tmp_path: Path) -> None:
    row: list[dict[str, object]] = [{"step": 4, "loss": 0.25}]
    (loss,) = [drawing for _, drawing in charts(contents_of(tmp_path, row))]
    assert "<svg" not in loss
    assert "<dt>train</dt><dd><b>0.25</b> loss per example at step 4</dd>" in loss


def test_a_resumed_step_counts_once(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 4.0}, {"step": 1, "loss": 3.0}]
    contents = contents_of(tmp_path, rows)
    assert [(row["step"], row["loss"]) for row in contents.train] == [(1, 3.0), (2, 4.0)]


def test_long_runs_are_binned_with_their_extremes_in_sight() -> None:
    points: list[tuple[float, float | None]] = [(float(n), 1.0) for n in range(1000)]
    points[500] = (500.0, 9.0)
    series = binned(points, "train", "a", most=100)
    assert len(series.points) == 100
    assert series.name == "train (mean of 10 steps)"
    assert max(point.y_high for point in series.points if point.y_high is not None) == 9.0
    assert series.points[50].y == pytest.approx(1.8)


def test_a_bin_with_a_nan_is_a_gap_and_no_average() -> None:
    points: list[tuple[float, float | None]] = [(float(n), 1.0) for n in range(20)]
    points[13] = (13.0, None)
    assert [point.y for point in binned(points, "train", "a", most=4).points] == [1.0, 1.0, None, 1.0]


def test_accuracy_needs_intervals() -> None:
    whole = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    assert accuracy_chart({}) is None
    assert accuracy_chart({"policy": {"estimate": 0.5}}) is None
    assert accuracy_chart({"policy": 0.5}) is None
    chart = accuracy_chart({"reference": whole, "policy": {"estimate": 0.9, "low": 0.8, "high": 0.95}})
    assert chart is not None
    assert "After (policy) 90.0 % (80.0 to 95.0 %)" in chart


def test_dimensions_have_rows_of_their_own() -> None:
    rate = {"estimate": 0.6, "low": 0.5, "high": 0.7}
    drawn = accuracy_chart({"implied": rate, "dimensions": {"safe": {"n": 9, "implied": {**rate, "estimate": 0.8}}}})
    assert drawn is not None
    assert "Implied reward, safe 80.0 % (50.0 to 70.0 %)" in drawn


def test_the_mean_over_seeds_is_drawn_with_the_range(tmp_path: Path) -> None:
    groups = {}
    for beta, ends in (("0.1", (0.5, 0.7)), ("0.5", (0.2, 0.4))):
        runs = []
        for seed, end in enumerate(ends):
            rows = [{"step": n, "split": "eval", "loss": 1.0 if n == 10 else end} for n in (10, 20)]
            runs.append(read_contents(write_run(tmp_path / f"{beta}-{seed}", "dpo", rows)))
        groups[f"pref_beta {beta}"] = runs
    ((title, drawing),) = overlaid(groups)
    assert title == "Loss, held-out"
    assert "pref_beta 0.1 goes from 1 at step 10 to 0.6 at step 20" in drawing
    assert "pref_beta 0.5 goes from 1 at step 10 to 0.3 at step 20" in drawing
    assert drawing.count('class="band') == 2


def test_online_runs_show_reward_and_kl_and_no_loss(tmp_path: Path) -> None:
    run = read_contents(write_run(tmp_path, "grpo", online_rows()))
    assert [title for title, _ in overlaid({"all": [run]})] == ["Reward, held-out", "KL to the reference, held-out"]


def test_runs_that_never_evaluated_show_training(tmp_path: Path) -> None:
    rows = [row for row in offline_rows("sft") if row["split"] == "train"]
    run = read_contents(write_run(tmp_path, "sft", rows))
    assert [title for title, _ in overlaid({"all": [run]})] == ["Loss, training"]
