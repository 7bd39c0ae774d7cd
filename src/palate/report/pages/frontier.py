"""The folder of a measured frontier: its numbers, every answer, and a page with figures and a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.artifacts import atomic_folder, plain, write_json, write_text
from palate.charts import DataPoint, scatter_chart
from palate.charts.scale import ScaleName
from palate.charts.text import amount, number
from palate.errors import ArtifactError
from palate.evaluation.winrate.folder import check_contents
from palate.report.html import render
from palate.report.intervals import json_interval, shown
from palate.report.tables import Table

FRONTIER, ANSWERS, REPORT = "frontier.json", "answers.jsonl", "report.html"


def check_folder(folder: Path) -> None:
    """Refuses a folder that holds anything but an earlier frontier, before anything is measured.

    Raises:
        ArtifactError: it does, or cannot be written to.
    """
    check_contents(folder, "frontier", lambda path: path.name in (FRONTIER, ANSWERS, REPORT))
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ArtifactError(f"{folder}: {parent} is not a writable folder; choose another --output")


def write_frontier(
    folder: Path, frontier: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], *, x_scale: ScaleName = "sqrt"
) -> None:
    """Writes the three files at once; an earlier frontier in the folder is replaced."""
    check_folder(folder)
    facts = plain(frontier)  # as a reader of the file finds it, so that the page shows the same
    with atomic_folder(folder) as scratch:
        write_json(scratch / FRONTIER, facts)
        rows = (json.dumps(plain(answer), ensure_ascii=False, allow_nan=False) for answer in answers)
        write_text(scratch / ANSWERS, "".join(f"{row}\n" for row in rows))
        write_text(scratch / REPORT, frontier_page(facts, x_scale=x_scale))


def frontier_page(facts: Mapping[str, Any], *, x_scale: ScaleName = "sqrt") -> str:
    """The HTML page of a `frontier.json`."""
    points = facts["points"]
    return render(
        "frontier.html",
        title="Reward against KL",
        reference=points[0]["model"],
        points=len(points) - 1,
        facts=[
            ("reference", points[0]["model"]),
            ("answers", f"{facts['samples']} to each of {amount(facts['prompts'], 'prompt')}, at temperature 1"),
            ("longest answer", f"{facts['max_new_tokens']} tokens"),
            ("seed and precision", f"{facts['seed']}, {facts['precision']}"),
            *([("prompts left out", f"{facts['left_out']}, too long")] if facts["left_out"] else []),
        ],
        charts=[
            (reward, frontier_figure(points, reward, key=f"frontier-{index}", x_scale=x_scale))
            for index, reward in enumerate(facts["rewards"])
        ],
        table=frontier_table(facts),
    )


def frontier_figure(points: Sequence[Mapping[str, Any]], reward: str, *, key: str, x_scale: ScaleName) -> Markup:
    """One reward of the points of a `frontier.json` against KL; checkpoints are joined by step, other points by KL."""
    groups: dict[str, list[DataPoint]] = {}
    for point in points:
        kl, found = point["kl"], point["rewards"][reward]
        step = f"step {point['step']}" if point["step"] is not None else ""
        # KL is never negative, but Student's interval may be.
        low = None if kl["low"] is None else max(0.0, kl["low"])
        mark = DataPoint(kl["estimate"], low, kl["high"], found["estimate"], found["low"], found["high"], step)
        groups.setdefault(str(point["group"] or point["name"]), []).append(mark)
    references = [point for point in points if point["reference"]]
    stepped = all(point["step"] is not None for point in points if not point["reference"])
    return scatter_chart(
        groups,
        key=key,
        title=f"{reward} against KL",
        y_label=reward,
        x_scale=x_scale,
        order="given" if stepped else "x",
        muted=[str(point["group"] or point["name"]) for point in references],
        levels=[(point["rewards"][reward]["estimate"], "") for point in references],
    )


def frontier_table(facts: Mapping[str, Any]) -> Table:
    """A row for each point, with 95 % intervals over prompts; columns that no point has are left out.

    `ended` and `distinct` come early: they show whether reward and KL are worth comparing.
    """
    points, rewards = facts["points"], facts["rewards"]
    named = [name for name in ("method", "step") if any(point[name] is not None for point in points)]
    columns = ["point", *named, *rewards, "KL", "ended", "distinct", "tokens", "KL, sampled"]
    rows = [
        [
            str(point["name"]),
            *("–" if point[name] is None else str(point[name]) for name in named),
            *(shown(json_interval(point["rewards"][reward])) for reward in rewards),
            shown(json_interval(point["kl"])),
            f"{100 * point['ended']['estimate']:.0f} %",
            f"{100 * point['distinct']['estimate']:.0f} %",
            number(point["tokens"]["estimate"], 3),
            shown(json_interval(point["kl_sampled"])),
        ]
        for point in points
    ]
    first = 2 if "method" in named else 1
    return Table(columns, rows, numeric=frozenset(range(first, len(columns))))


def half_width(found: Mapping[str, Any]) -> str:
    """`1.23 ± 0.22`, for a terminal."""
    estimate, low, high = found["estimate"], found["low"], found["high"]
    if low is None or high is None or low == high:
        return number(estimate, 3)
    return f"{number(estimate, 3)} ± {number((high - low) / 2, 3)}".replace(" ", "\u00a0")
