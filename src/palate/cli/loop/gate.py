"""`palate loop gate`: the decision whether a model may replace the one in use."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.arguments import AsJson
from palate.cli.columns import table, text_width, wrapped
from palate.cli.console import print_json, print_result
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.loop.gate import Check, Verdict

EXIT_CODES = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}


def gate_command(
    config: Annotated[Path, typer.Option("--config", metavar="GATE.yaml", help="What was fixed before the run.")],
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RESULT...",
            help="Folders of `palate eval winrate` and `eval bench`; none: check the config.",
        ),
    ] = None,
    card: Annotated[
        Path | None, typer.Option("--card", metavar="CARD.json", help="The judge's card (`palate judge calibrate`).")
    ] = None,
    must_pass: Annotated[
        Path | None, typer.Option("--must-pass", metavar="LOG", help="Result of the must-pass prompts; 1 is passed.")
    ] = None,
    latency: Annotated[
        tuple[float, float] | None,
        typer.Option("--latency", metavar="OLD NEW", help="95th percentile of the latency of incumbent and candidate."),
    ] = None,
    attempt: Annotated[int, typer.Option("--attempt", min=1, help="2 for the first retry; each halves alpha.")] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: gate.json in the win rate's folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide PASS (exit code 0), FAIL (1) or INCONCLUSIVE (3) from a candidate's results.

    Example: palate loop gate winrate bench --config gate.yaml --card card.json
    """
    from palate.artifacts import now, write_json
    from palate.loop.evidence import find_results, freeze, gate_prompts, read_evidence
    from palate.loop.gate import decide
    from palate.loop.gate_config import chances, load_gate_config

    read = load_gate_config(config)
    prompts = gate_prompts(read)
    gate = freeze(read, prompts)
    can_find = chances(read, read.alpha / 2 ** (attempt - 1))
    if not results:
        _print_config(gate.hash, can_find, as_json=as_json)
        return
    if latency is not None and min(latency) <= 0:
        raise UsageError("--latency: needs two numbers above 0")
    found = find_results(results)
    evidence, origin = read_evidence(found, read, prompts, must_pass=must_pass, card=card, latency=latency)
    path = output or found.win_rate / "gate.json"
    _check_attempt(path, attempt, origin["inputs"], sequential=read.sequential)
    verdict = decide(gate, evidence, attempt=attempt)
    facts: dict[str, Any] = {
        "kind": "gate",
        "version": 1,
        **asdict(verdict),
        "reasons": verdict.reasons,
        "config_hash": gate.hash,
        "prompts_hash": gate.prompts_hash,
        "config": read.resolved(),
        "chances": can_find,
        "when": now(),
        **origin,
    }
    write_json(path, facts)  # before anything is printed: what was seen was decided
    if as_json:
        print_json(facts)
    else:
        print_result(_text(verdict, facts, path))
    raise typer.Exit(EXIT_CODES[verdict.outcome])


def _check_attempt(path: Path, attempt: int, inputs: dict[str, str], *, sequential: bool) -> None:
    """Raises UsageError if other results were decided on with this attempt; with `sequential` one may look again."""
    from palate.artifacts import read_json

    if not path.is_file():
        return
    before = read_json(path)
    if not isinstance(before, dict) or before.get("kind") != "gate":
        raise UsageError(f"{path}: is no verdict of a gate; choose another --output")
    if attempt < before["attempt"] or (attempt == before["attempt"] and before["inputs"] != inputs and not sequential):
        raise UsageError(
            f"{path}: attempt {before['attempt']} was decided on other results ({before['outcome']}); "
            f"this is --attempt {before['attempt'] + 1}, with half its alpha"
        )


def _print_config(digest: str, can_find: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        print_json({"config_hash": digest, "chances": can_find})
        return
    gain, *guards = can_find.items()
    lines = [f"config hash   {digest}", f"smallest gain that is found in 80 % of gates: {100 * gain[1]:.1f} points"]
    if guards:
        rows = [[name, f"{100 * chance:.0f} %"] for name, chance in guards]
        lines += ["", table(["guard", "an equal model passes"], rows, right=(1,), width=text_width())]
    print_result("\n".join(lines))


def _text(verdict: Verdict, facts: dict[str, Any], path: Path) -> str:
    width = text_width()
    names = ["check", "state", "found", "lower", "upper", "needed"]
    rows = [
        [
            check.name,
            check.state,
            *(_cell(check, value) for value in (check.found, check.low, check.high)),
            check.needed,
        ]
        for check in verdict.checks
    ]
    head = f"{verdict.outcome}: {facts['candidate']} in place of {facts['incumbent']}"
    raw = "no verdict" if verdict.raw is None else verdict.raw.percent()
    bounds = f"bounds are one-sided at {100 * (1 - verdict.alpha):g} %; raw win rate {raw}"
    parts = [head, table(names, rows, right=(2, 3, 4), width=width), bounds]
    if verdict.reasons:
        parts.append("\n".join(verdict.reasons))
    return "\n\n".join(wrapped(part, hang=2, width=width) for part in [*parts, f"verdict  {path}"])


def _cell(check: Check, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if check.part == "primary" else f"{value:.4g}"
