"""The tables and figures of the comparison of what overfits, from its record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from _markdown import interval, markdown
from _shown import ends, points, record_of, runs_of, side_by_side

from palate.charts import DataPoint, scatter_chart, svg_file


def _references(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {cell["name"]: cell["record"] for cell in result["cells"] if cell["name"].startswith("reference")}


def tables(result: Mapping[str, Any]) -> dict[str, str]:
    """In and out of training, what became of the answers, what is still known, and the answers side by side."""
    return {
        "overfitting": _accuracy_table(result),
        "overfitting_answers": _answer_table(result),
        "overfitting_knowledge": _knowledge_table(result),
        "overfitting_side_by_side": _side_by_side(result),
    }


def _accuracy_table(result: Mapping[str, Any]) -> str:
    header = [
        "run", "lr", "β", "batch", "epochs", "own log-probability, training", "held out", "implied reward, training",
        "held out", "margin, training", "held out", "s",
    ]  # fmt: skip
    rows: list[list[Any]] = []
    references: dict[str, list[Any]] = {}
    for name, cell in runs_of(result).items():
        run, accuracy = cell["settings"]["run"], cell["record"]["accuracy"]
        train, held_out = accuracy["train"], accuracy["held_out"]
        rows.append(
            [
                name,
                f"{run['learning_rate']:.0e}",
                f"{run['pref_beta']:g}",
                run["per_device_train_batch_size"],
                f"{run['num_train_epochs']:g}",
                *(interval(one["policy_mean"], 0, percent=True) for one in (train, held_out)),
                *(interval(one["implied"], 0, percent=True) for one in (train, held_out)),
                *(interval(one["margin"], 2) for one in (train, held_out)),
                round(cell["seconds"]),
            ]
        )
        # The run with a template of its own has a reference of its own, as that template shows it the pairs.
        template = run.get("template")
        known = "reference" if template is None else f"reference, template {template}"
        if known not in references:
            before = [interval(one["reference_mean"], 0, percent=True) for one in (train, held_out)]
            references[known] = [known, "", "", "", "", *before, "", "", "", "", ""]
    return markdown(header, [*references.values(), *rows])


def _answer_table(result: Mapping[str, Any]) -> str:
    header = [
        "run", "KL, nats an answer", "KL a token", "tokens, sampled", "end their turn", "distinct pairs of tokens",
        "end in a loop", "of six likeliest answers changed", "word pairs kept",
    ]  # fmt: skip
    rows = []
    sampled = {name: (one["sampled"], None) for name, one in _references(result).items()}
    sampled |= {name: (one["record"]["sampled"], one["record"]["changed"]) for name, one in runs_of(result).items()}
    for name, (one, change) in sampled.items():
        different = "" if change is None else f"{change['different']} of {change['n']}"
        rows.append(
            [
                name,
                interval(one["kl"]),
                f"{one['kl_per_token']:.3f}",
                f"{one['tokens']:.0f}",
                f"{100 * one['ended']:.0f} %",
                f"{100 * one['distinct_2']:.0f} %",
                f"{100 * one['loops']:.0f} %",
                different,
                "" if change is None else f"{100 * change['words_kept']:.0f} %",
            ]
        )
    return markdown(header, rows)


def _knowledge_table(result: Mapping[str, Any]) -> str:
    header = [
        "run", "MC1", "change, points", "won, lost", "p", "MC2", "change, points", "perplexity of neutral text",
        "rise of its loss, nats a token",
    ]  # fmt: skip
    rows = []
    for name, one in _references(result).items():
        share = interval(one["mc1"], 0, percent=True)
        rows.append([name, share, "", "", "", interval(one["mc2"], 2), "", f"{one['perplexity']:.2f}", ""])
    for name, cell in runs_of(result).items():
        known, kept = cell["record"]["knowledge"], cell["record"]["kept"]
        rows.append(
            [
                name,
                interval(known["mc1"], 0, percent=True),
                points(kept["mc1"]),
                f"{kept['won']}, {kept['lost']}",
                f"{kept['mc1_p']:.2f}",
                interval(known["mc2"], 2),
                points(kept["mc2"]),
                f"{known['perplexity']:.2f}",
                interval(kept["loss"], 3),
            ]
        )
    return markdown(header, rows)


def _side_by_side(result: Mapping[str, Any]) -> str:
    """Full fine-tuning, LoRA and the last layers, as wide as a page; the other runs' answers are in the record."""
    reference = record_of(result, "reference")
    shown = {
        name: cell for name, cell in runs_of(result).items() if name.startswith(("LoRA", "last")) or name == "full"
    }
    answers = {name: cell["record"]["answers"] for name, cell in shown.items()}
    return side_by_side(reference["prompts"], answers, reference["answers"])


def figures(result: Mapping[str, Any]) -> dict[str, str]:
    """Margins in and out of training; knowledge lost against distance gone."""
    gap: dict[str, list[DataPoint]] = {}
    lost: dict[str, list[DataPoint]] = {}
    for name, cell in runs_of(result).items():
        record = cell["record"]
        train, held_out = (ends(record["accuracy"][part]["margin"]) for part in ("train", "held_out"))
        gap[name] = [DataPoint(*train, *held_out)]
        lost[name] = [DataPoint(*ends(record["sampled"]["kl"]), *ends(record["kept"]["loss"]))]
    return {
        "overfitting_margins.svg": svg_file(
            scatter_chart(
                gap,
                key="overfitting-margins",
                title="Margin on held-out pairs against margin on training pairs",
                x_label="training: mean of log π/π_ref of chosen − rejected, nats",
                y_label="held out, nats",
                levels=[(0.0, "no change")],
            )
        ),
        "overfitting_knowledge.svg": svg_file(
            scatter_chart(
                lost,
                key="overfitting-knowledge",
                title="Rise of the loss of neutral text against KL to the reference",
                x_label="KL to the reference, nats per answer",
                y_label="rise of the loss, nats per token",
                x_scale="sqrt",
                levels=[(0.0, "nothing lost")],
            )
        ),
    }
