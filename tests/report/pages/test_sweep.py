"""A sweep's page: figures with their intervals, and the front marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import write_json
from palate.errors import ArtifactError
from palate.report.pages.sweep import (
    best_card,
    charts,
    is_sweep_folder,
    on_front,
    point_table,
    ranking,
    read_sweep,
    seed_table,
    write_sweep_report,
)
from palate.stats import wilson
from stage_runs import offline_rows, write_run


def rate(wins: int, n: int = 40) -> dict[str, Any]:
    found = wilson(wins, n)
    return {"estimate": found.estimate, "low": found.low, "high": found.high}


def weighed(helpful: float, wins: tuple[int, int]) -> dict[str, Any]:
    """A point of a sweep over weights; `wins` of 40 pairs in helpful and in safe."""
    name = f"helpful-{helpful}"
    dimensions = {key: {"n": 40, "implied": rate(won)} for key, won in zip(("helpful", "safe"), wins)}
    return {
        "name": name,
        "values": {"dimension_weights": {"helpful": helpful, "safe": 1 - helpful}},
        "status": "completed",
        "metrics": {"loss": 0.5, "eval_loss": 0.6, "eval_rewards/margins": 0.1},
        "health": ["length_bias"] if helpful == 1.0 else [],
        "accuracy": {"n": 40, "implied": rate(sum(wins) // 2), "dimensions": dimensions},
    }


def folder(path: Path, points: list[dict[str, Any]], status: str = "completed") -> Path:
    write_json(path / "sweep.json", {"schema": 1, "status": status, "keys": ["dimension_weights"], "points": points})
    return path


POINTS = [weighed(1.0, (36, 14)), weighed(0.5, (30, 30)), weighed(0.25, (28, 30)), weighed(0.0, (12, 36))]


def test_dimensions_are_traded_off_and_the_front_is_marked(tmp_path: Path) -> None:
    points, _ = read_sweep(folder(tmp_path, POINTS))
    drawn, front = charts(points)
    assert front == [True, True, False, True], "the third is beaten by the second"
    assert [title for title, _ in drawn] == [
        "Trade-off of helpful and safe",
        "Preference accuracy on held-out pairs",
    ]
    assert "2: helpful 0.5, safe 0.5: helpful 75.0 %, safe 75.0 %, on the front" in drawn[0][1]
    assert "3: helpful 0.25, safe 0.75: helpful 70.0 %, safe 75.0 %;" in drawn[0][1]


def test_the_table_has_an_interval_for_each_dimension(tmp_path: Path) -> None:
    points, _ = read_sweep(folder(tmp_path, POINTS))
    table = point_table(points, charts(points)[1])
    assert list(table.columns)[:5] == ["", "dimension_weights", "helpful", "safe", "accuracy"]
    found = wilson(36, 40)
    assert table.rows[2][1] == "helpful 1, safe 0"
    assert table.rows[2][2] == f"90.0 % ({100 * found.low:.1f} to {100 * found.high:.1f} %)"
    # Overall 30, 29, 25 and 24 of 40 are right: the best comes first.
    assert [row[0] for row in table.rows] == ["2 · front", "3", "1 · front", "4 · front"]
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "length bias" in page


def test_a_point_is_off_the_front_when_another_is_as_good_everywhere_and_better_somewhere() -> None:
    points = [(0.9, 0.2), (0.6, 0.6), (0.5, 0.6), (0.2, 0.9), (0.1, 0.1)]
    assert on_front(points) == [True, True, False, True, False]
    assert on_front([(0.5, 0.5), (0.5, 0.5)]) == [True, True], "equal points share the front"
    assert on_front([]) == []


def test_accuracy_is_traded_off_against_kl(tmp_path: Path) -> None:
    points = [
        {
            "name": f"pref_beta-{beta}",
            "values": {"pref_beta": beta},
            "status": "completed",
            "metrics": {"eval_health/kl": kl},
            "accuracy": {"n": 40, "implied": rate(won)},
        }
        for beta, kl, won in ((0.5, 1.0, 24), (0.1, 4.0, 32), (0.05, 9.0, 30))
    ]
    drawn, front = charts(read_sweep(folder(tmp_path, points))[0])
    assert front == [True, True, False]
    assert "Trade-off of KL to the reference and held-out accuracy" in dict(drawn)


def test_points_without_figures_are_listed(tmp_path: Path) -> None:
    begun = {
        "name": "seed-2",
        "values": {"seed": 2},
        "status": "not begun",
        "metrics": {},
        "accuracy": {},
        "health": [],
    }
    done = {"name": "seed-1", "values": {"seed": 1}, "status": "completed", "metrics": {"loss": 0.5}, "accuracy": {}}
    page = write_sweep_report(folder(tmp_path, [done, begun], "running")).read_text(encoding="utf-8")
    assert "1 of 2 runs" in page
    assert "not begun" in page
    assert "<svg" not in page


def test_the_page_stands_alone_and_text_stays_text(tmp_path: Path) -> None:
    evil = weighed(0.5, (30, 30)) | {"values": {"dataset": "<script>alert(1)</script>"}}
    folder(tmp_path, [*POINTS, evil])
    assert is_sweep_folder(tmp_path)
    page = write_sweep_report(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_damaged_file_is_said_in_one_line(tmp_path: Path) -> None:
    write_json(tmp_path / "sweep.json", {"points": 3})
    with pytest.raises(ArtifactError, match="it lists no points"):
        write_sweep_report(tmp_path)


def seeded(beta: float, seed: int, wins: int, loss: float) -> dict[str, Any]:
    return {
        "name": f"pref_beta-{beta}_seed-{seed}",
        "values": {"pref_beta": beta, "seed": seed},
        "status": "completed",
        "metrics": {"eval_loss": loss},
        "accuracy": {"n": 40, "implied": rate(wins)},
    }


def test_over_seeds_there_are_means_and_standard_deviations(tmp_path: Path) -> None:
    """Accuracies 60, 70 and 80 %: mean 70, standard deviation 10. Losses 0.5, 0.6 and 0.7: 0.6 and 0.1."""
    points = [seeded(0.1, seed, wins, loss) for seed, wins, loss in ((1, 24, 0.5), (2, 28, 0.6), (3, 32, 0.7))]
    table = seed_table(read_sweep(folder(tmp_path, [*points, seeded(0.5, 1, 20, 0.4)]))[0])
    assert table is not None
    assert list(table.columns) == ["pref_beta", "seeds", "accuracy", "loss"]
    assert list(table.rows) == [["0.1", "3", "70.0 ± 10.0 %", "0.6 ± 0.1"]], "one seed has no deviation"
    assert "70.0 ± 10.0 %" in write_sweep_report(tmp_path).read_text(encoding="utf-8")


def test_without_seeds_there_is_no_such_table(tmp_path: Path) -> None:
    assert seed_table(read_sweep(folder(tmp_path, POINTS))[0]) is None


def test_points_lead_to_their_runs_whose_curves_are_laid_over_each_other(tmp_path: Path) -> None:
    points = [seeded(beta, seed, 24, 0.5) for beta in (0.1, 0.5) for seed in (1, 2)]
    for point in points:
        write_run(tmp_path / point["name"], "dpo", offline_rows("dpo"))
        (tmp_path / point["name"] / "report.html").write_text("<!doctype html>")
    page = write_sweep_report(folder(tmp_path, points)).read_text(encoding="utf-8")
    assert '<a href="pref_beta-0.1_seed-1/report.html">1 · front</a>' in page or (
        '<a href="pref_beta-0.1_seed-1/report.html">1</a>' in page
    )
    assert "<figcaption>Loss, held-out</figcaption>" in page
    assert "pref_beta 0.1 goes from" in page


@pytest.mark.parametrize(
    ("key", "order", "best"),
    [
        ("learning_rate", [1, 2, 0], ["0.3 (run 2: learning_rate 1)"]),
        ("pref_beta", [0, 1, 2], []),
        ("margin_weight", [0, 1, 2], []),
        ("ref_model", [0, 1, 2], []),
        ("beta", [0, 1, 2], []),
        ("label_smoothing", [0, 1, 2], []),
    ],
)
def test_losses_sort_only_runs_with_the_same_loss(tmp_path: Path, key: str, order: list[int], best: list[str]) -> None:
    rows = [
        {"name": str(at), "values": {key: at}, "status": "completed", "metrics": {"eval_loss": loss}}
        for at, loss in enumerate((0.7, 0.3, 0.5))
    ]
    points, _ = read_sweep(folder(tmp_path, rows))
    assert ranking(points) == order
    assert [str(card) for card in best_card(points)] == best
