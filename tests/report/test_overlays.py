"""Curves of several runs in one chart."""

from __future__ import annotations

from pathlib import Path

from palate.report.contents import read_contents
from palate.report.overlays import overlaid
from stage_runs import offline_rows, online_rows, write_run


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
