"""The tables and figures of where DPO starts and what it learns from, from its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _markdown import interval, markdown
from _real_pairs import DEMO
from _shown import ends, side_by_side

from palate.charts import DataPoint, Row, interval_chart, scatter_chart, svg_file

STARTS = ("none", "short", "longer")


def _cells(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {cell["name"]: cell for cell in result["cells"]}


def _sets(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What DPO was trained on → its cell, where it started from the model as it comes."""
    return {
        cell["settings"]["data"]: cell
        for cell in result["cells"]
        if "trained" in cell["record"] and cell["settings"]["start"] == "none"
    }


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """DPO from each start, its answers, and the sets: their sizes, and every run measured on each."""
    return {
        "starts": _start_table(result),
        "starts_answers": _answer_table(result),
        "starts_sets": _set_table(result),
        "starts_cross": _cross_table(result),
    }


def _start_table(result: Mapping[str, Any]) -> str:
    header = [
        "SFT before", "accuracy before DPO", "after DPO", "implied reward", "margin, nats", "KL of SFT to the model",
        "KL of DPO to its start", "to the model", "tokens, sampled", "end their turn", "distinct pairs of tokens",
    ]  # fmt: skip
    cells, rows = _cells(result), []
    for start in STARTS:
        began, record = cells[f"start {start}"]["record"], cells[f"dpo from {start}"]["record"]
        accuracy, sampled = record["on"][DEMO], record["sampled"]
        rows.append(
            [
                start,
                interval(accuracy["reference_mean"], 1, percent=True),
                interval(accuracy["policy_mean"], 1, percent=True),
                interval(accuracy["implied"], 1, percent=True),
                interval(accuracy["margin"]),
                interval(began["sampled"]["kl"]),
                interval(sampled["kl"]),
                interval(record.get("from_first", sampled)["kl"]),
                f"{sampled['tokens']:.0f}",
                f"{100 * sampled['ended']:.0f} %",
                f"{100 * sampled['distinct_2']:.0f} %",
            ]
        )
    return markdown(header, rows)


def _answer_table(result: Mapping[str, Any]) -> str:
    cells = {name: cell["record"] for name, cell in _cells(result).items()}
    names = [name for start in STARTS for name in (f"start {start}", f"dpo from {start}")][1:]
    first = cells["start none"]
    return side_by_side(first["prompts"], {name: cells[name]["answers"] for name in names}, first["answers"])


def _set_table(result: Mapping[str, Any]) -> str:
    header = [
        "set", "pairs", "epochs", "held out", "accuracy before, by mean", "after", "before, by sum", "after",
        "implied reward", "margin, nats", "KL on the built-in prompts", "s",
    ]  # fmt: skip
    counts, rows = _cells(result)["pairs"]["record"], []
    for name, cell in _sets(result).items():
        accuracy = cell["record"]["on"][name]
        keys = ("reference_mean", "policy_mean", "reference_sum", "policy_sum", "implied")
        rows.append(
            [
                name,
                counts[name]["train"]["pairs"],
                f"{cell['settings']['run']['num_train_epochs']:g}",
                counts[name]["held-out"]["pairs"],
                *(interval(accuracy[key], 1, percent=True) for key in keys),
                interval(accuracy["margin"]),
                interval(cell["record"]["sampled"]["kl"]),
                round(cell["seconds"]),
            ]
        )
    return markdown(header, rows)


def _cross_table(result: Mapping[str, Any]) -> str:
    """Implied-reward accuracy: which pairs each run moved in the labelled direction; sizes are in the table of sets."""
    sets = _sets(result)
    rows = [
        [name, *(interval(cell["record"]["on"][other]["implied"], 0, percent=True) for other in sets)]
        for name, cell in sets.items()
    ]
    return markdown(["trained on", *(f"on {name}" for name in sets)], rows)


def figures(result: Mapping[str, Any]) -> dict[str, str]:
    """Accuracy against KL from each start; before and after on each set."""
    cells, series = _cells(result), {}
    for start in STARTS:
        began, record = cells[f"start {start}"]["record"], cells[f"dpo from {start}"]["record"]
        after = record.get("from_first", record["sampled"])
        series[f"SFT {start}"] = [
            DataPoint(*ends(began["sampled"]["kl"]), *ends(record["on"][DEMO]["reference_mean"]), "before DPO"),
            DataPoint(*ends(after["kl"]), *ends(record["on"][DEMO]["policy_mean"]), "after DPO"),
        ]
    front = scatter_chart(
        series,
        key="starts",
        title="Held-out accuracy against KL, before and after DPO from each start",
        x_label="KL to the model as it comes, nats per answer",
        y_label="share of held-out pairs ranked as labelled, by mean log-probability",
        x_scale="sqrt",
        order="given",
        levels=[(0.5, "chance")],
    )
    estimates = []
    for name, cell in _sets(result).items():
        accuracy = cell["record"]["on"][name]
        for said, key, colour in (
            ("before", "reference_mean", "d"),
            ("after", "policy_mean", "a"),
            ("implied", "implied", "b"),
        ):
            estimates.append(Row(f"{name}, {said}", *ends(accuracy[key]), colour))
    sets = interval_chart(
        "starts-sets", "Held-out accuracy of one recipe on each set", estimates, level=(0.5, "chance")
    )
    return {"starts.svg": svg_file(front), "starts_sets.svg": svg_file(sets)}
