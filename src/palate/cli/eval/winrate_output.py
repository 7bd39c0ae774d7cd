"""What `palate eval winrate` prints and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palate.cli.columns import table, two_columns, wrapped
from palate.cli.console import print_done, print_json, print_note, print_result, wants_json

if TYPE_CHECKING:
    from palate.evaluation.winrate.folder import WinRateFolder
    from palate.evaluation.winrate.result import Result
    from palate.stats import Interval

_WIDEST_ANSWER = 300
_SHOWN_REGRESSIONS = 20


def print_next_step(folders: dict[float, WinRateFolder]) -> None:
    """How people vote on the answers."""
    paths = [str(folder.candidates) for folder in folders.values()]
    lines = [f"answers of both      {path}" for path in paths]
    lines.append(f"to vote              palate label serve --candidates {paths[0]} --campaign NAME")
    lines.append("then                 this command again with --campaign NAME (and --store), or with --votes FILE")
    print_done("\n".join(lines), {"candidates": paths})


def write_result(folder: WinRateFolder, result: Result) -> dict[str, Any]:
    """Write the result and its page; returns the result as a reader of the file finds it."""
    from palate.artifacts import write_json, write_text
    from palate.evaluation.winrate.folder import REPORT, RESULT
    from palate.report.pages.winrate import winrate_page

    facts = result.to_json()
    write_json(folder.path / RESULT, facts)
    write_text(folder.path / REPORT, winrate_page(facts))
    return facts


def print_one(folder: WinRateFolder, facts: dict[str, Any], *, with_regressions: bool) -> None:
    from palate.report.pages.winrate import figure_rows, group_table, left_out_count, left_out_rows

    if wants_json():
        print_json({"folder": str(folder.path), **facts})
        return
    parts = [wrapped(f"{facts['a']['name']} against {facts['b']['name']}, judge {facts['judge']}", hang=2)]
    parts.append(two_columns(figure_rows(facts), indent=0))
    for groups in (facts["by_category"], facts["by_length"]):
        if groups:
            made = group_table(groups)
            rows = [[str(cell) for cell in row] for row in made.rows]
            parts.append(table(made.columns, rows, right=made.numeric))
    left_out = [f"{name}: {status}: {why}" for name, status, why in left_out_rows(facts)]
    more = left_out_count(facts) - len(left_out)
    if left_out:
        left_out += [f"… and {more:,} more in winrate.json"] if more else []
        parts.append(wrapped("\n".join(left_out), hang=2))
    if with_regressions:
        parts += [_side_by_side(item) for item in facts["regressions"][:_SHOWN_REGRESSIONS]]
    parts.append(f"report  {folder.path / 'report.html'}")
    print_result("\n\n".join(parts))
    for finding in facts["findings"]:
        print_note(finding)


def _side_by_side(item: dict[str, Any]) -> str:
    texts = [("prompt", item["prompt"][-1]["content"]), ("A", item["a"]), ("B", item["b"]), ("judge", item["reason"])]
    rows = [(name, _one_line(text)) for name, text in texts if text]
    return "\n".join([f"{item['id']}: score of A {item['score']:g}", two_columns(rows)])


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    left = len(line) - _WIDEST_ANSWER
    return line if left <= 0 else f"{line[:_WIDEST_ANSWER]} … ({left:,} more characters)"


def print_sweep(folder: WinRateFolder, written: dict[float, dict[str, Any]]) -> None:
    """A row and a point of the figure for each temperature; the whole results are in a folder each."""
    from palate.artifacts import write_json, write_text
    from palate.evaluation.winrate.folder import REPORT, SWEEP
    from palate.report.evaluation.winrates import sweep_page
    from palate.report.intervals import json_interval

    kept = ("win_rate", "length_controlled", "counts", "wins", "ties", "inconsistent", "losses", "p_value", "findings")
    points = [{"temperature": heat, **{name: facts[name] for name in kept}} for heat, facts in written.items()]
    content = {"kind": "winrate_sweep", "version": 1, "points": points}
    write_json(folder.path / SWEEP, content)
    write_text(folder.path / REPORT, sweep_page(list(written.values())))
    if wants_json():
        print_json({"folder": str(folder.path), **content})
        return
    names = ["T", "win rate, %", "length-controlled", "W/T/I/L", "none", "p"]
    rows = []
    for heat, facts in written.items():
        counted = "/".join(str(facts[name]) for name in ("wins", "ties", "inconsistent", "losses"))
        unjudged = facts["counts"]["unparsed"] + facts["counts"]["missing"]
        rates = [_short(json_interval(one)) for one in (facts["win_rate"], facts["length_controlled"]["rate"])]
        rows.append([f"{heat:g}", *rates, counted, str(unjudged), f"{facts['p_value']:.2g}"])
    legend = "W/T/I/L: wins, ties, inconsistent, losses; none: without a verdict; intervals of 95 %"
    shown = table(names, rows, right=(0, 4, 5))
    report = f"report  {folder.path / REPORT}"
    print_result(f"{shown}\n\n{wrapped(legend, hang=0)}\n\n{report}")
    for heat, facts in written.items():
        for finding in facts["findings"]:
            print_note(f"temperature {heat:g}: {finding}")


def _short(rate: Interval | None) -> str:
    """A rate in percent with its interval, short enough for a row of a sweep."""
    if rate is None:
        return "not known"
    return f"{100 * rate.estimate:.1f} ({100 * rate.low:.1f} to {100 * rate.high:.1f})"
