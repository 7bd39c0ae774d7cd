"""The folder of a measured frontier: its numbers, every answer, and a page with the figure and the table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.artifacts import atomic_folder, plain, write_json, write_text
from palate.errors import ArtifactError
from palate.report.blocks import Table
from palate.report.frontier import Mark, XScale, frontier_svg
from palate.report.page import render
from palate.report.scales import number

FRONTIER, ANSWERS, REPORT = "frontier.json", "answers.jsonl", "report.html"


def check_folder(folder: Path) -> None:
    """Refuse a place that holds something else than an earlier frontier, before anything is measured.

    Raises:
        ArtifactError: it does, or cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder}: is a file; choose another --output")
    if folder.is_dir():
        strange = sorted({path.name for path in folder.iterdir()} - {FRONTIER, ANSWERS, REPORT})
        if strange:
            raise ArtifactError(f"{folder}: holds files that are no frontier ({strange[0]}); choose another --output")
    above = next(place for place in folder.absolute().parents if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ArtifactError(f"{folder}: {above} is no folder that can be written to; choose another --output")


def write_frontier(
    folder: Path, frontier: Mapping[str, Any], answers: Sequence[Mapping[str, Any]], *, x_scale: XScale = "sqrt"
) -> None:
    """Write the three files at once; an earlier frontier in the folder is replaced.

    Args:
        frontier: what `Frontier.to_json` gives.
        answers: what `Frontier.answer_rows` gives.
        x_scale: of the figures.
    """
    check_folder(folder)
    # Through JSON, so that the page shows what a reader of the file would find.
    facts = plain(frontier)
    with atomic_folder(folder) as scratch:
        write_json(scratch / FRONTIER, facts)
        rows = (json.dumps(plain(answer), ensure_ascii=False, allow_nan=False) for answer in answers)
        write_text(scratch / ANSWERS, "".join(f"{row}\n" for row in rows))
        write_text(scratch / REPORT, frontier_page(facts, x_scale=x_scale))


def frontier_page(facts: Mapping[str, Any], *, x_scale: XScale = "sqrt") -> str:
    """The HTML page of a `frontier.json`."""
    points = facts["points"]
    return render(
        "frontier.html",
        title="Reward against KL",
        reference=points[0]["model"],
        points=len(points) - 1,
        facts=[
            ("reference", points[0]["model"]),
            ("answers", f"{facts['samples']} to each of {facts['prompts']} prompts, at temperature 1"),
            ("longest answer", f"{facts['max_new_tokens']} tokens"),
            ("seed and precision", f"{facts['seed']}, {facts['precision']}"),
            *([("prompts left out", f"{facts['left_out']}, too long")] if facts["left_out"] else []),
        ],
        figures=[
            (reward, frontier_figure(points, reward, key=f"frontier-{place}", x_scale=x_scale))
            for place, reward in enumerate(facts["rewards"])
        ],
        table=frontier_table(facts),
    )


def frontier_figure(
    points: Sequence[Mapping[str, Any]], reward: str, *, key: str = "frontier", x_scale: XScale = "sqrt"
) -> Markup:
    """One reward of the points of a `frontier.json` against KL; checkpoints are joined by step, all else by KL."""
    series: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        series.setdefault(str(point["group"] or point["name"]), []).append(point)
    stepped = all(point["step"] is not None for point in points if not point["reference"])
    muted = [name for name, group in series.items() if group[0]["reference"]]
    return frontier_svg(
        {
            name: [
                _mark(point, reward, f"step {point['step']}" if point["step"] is not None else "") for point in group
            ]
            for name, group in series.items()
        },
        key=key,
        title=f"{reward} against KL",
        y_label=reward,
        x_scale=x_scale,
        order="given" if stepped else "x",
        muted=muted,
        levels=[(point["rewards"][reward]["estimate"], "") for point in points if point["reference"]],
    )


def _mark(point: Mapping[str, Any], reward: str, label: str) -> Mark:
    x, y = point["kl"], point["rewards"][reward]
    # A KL is not negative, wherever Student's interval may reach.
    low = None if x["low"] is None else max(0.0, x["low"])
    return Mark(x["estimate"], low, x["high"], y["estimate"], y["low"], y["high"], label)


def frontier_table(facts: Mapping[str, Any]) -> Table:
    """A row for each point, with 95 % intervals over prompts; what no point has is left out.

    Whether answers end and differ comes before what can wait: it says whether reward and KL are worth comparing.
    """
    points, rewards = facts["points"], facts["rewards"]
    named = [name for name in ("method", "step") if any(point[name] is not None for point in points)]
    columns = ["point", *named, *rewards, "KL", "ended", "distinct", "tokens", "KL, sampled"]
    rows = [
        [
            str(point["name"]),
            *("–" if point[name] is None else str(point[name]) for name in named),
            *(_interval(point["rewards"][reward]) for reward in rewards),
            _interval(point["kl"]),
            f"{100 * point['ended']['estimate']:.0f} %",
            f"{100 * point['distinct']['estimate']:.0f} %",
            number(point["tokens"]["estimate"], 3),
            _interval(point["kl_sampled"]),
        ]
        for point in points
    ]
    first = 2 if "method" in named else 1
    return Table(columns, rows, numeric=frozenset(range(first, len(columns))))


def _interval(found: Mapping[str, Any]) -> str:
    """`1.23 (1.01 to 1.45)`; without the ends where there are none (one prompt) or both are the estimate."""
    estimate, low, high = found["estimate"], found["low"], found["high"]
    if low is None or high is None or low == high:
        return number(estimate, 3)
    return f"{number(estimate, 3)} ({number(low, 3)} to {number(high, 3)})"


def half_width(found: Mapping[str, Any]) -> str:
    """`1.23 ± 0.22`, for a terminal."""
    estimate, low, high = found["estimate"], found["low"], found["high"]
    if low is None or high is None or low == high:
        return number(estimate, 3)
    return f"{number(estimate, 3)} ± {number((high - low) / 2, 3)}".replace(" ", "\u00a0")
