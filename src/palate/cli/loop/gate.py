"""`palate loop gate`: the decision whether a model may replace the one in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Exit, Option

from palate.cli.arguments import StoreUrl, store_if_any
from palate.cli.columns import table, wrapped
from palate.cli.console import print_done, print_note
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.loop.gate.decision import GateCheck, GateVerdict
    from palate.store import Store

EXIT_CODES = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}


def gate_command(
    config: Annotated[Path, Option("--config", metavar="GATE.yaml", help="What was fixed before the run.")],
    results: Annotated[
        list[Path] | None,
        Argument(metavar="RESULT", help="Folders of `palate eval winrate` and `eval bench`; none: check the config."),
    ] = None,
    card: Annotated[
        Path | None, Option("--card", metavar="CARD.json", help="The judge's card (`palate judge calibrate`).")
    ] = None,
    must_pass: Annotated[
        Path | None, Option("--must-pass", metavar="LOG", help="Result of the must-pass prompts; 1 is passed.")
    ] = None,
    latency: Annotated[
        tuple[float, float] | None,
        Option("--latency", metavar="OLD NEW", help="95th percentile of the latency of incumbent and candidate."),
    ] = None,
    attempt: Annotated[
        int | None,
        Option("--attempt", min=1, help="2 for the first retry; each halves alpha. Default: counted in the store."),
    ] = None,
    candidate: Annotated[
        str | None,
        Option("--candidate", metavar="VERSION", help="Whose results they are, if they do not name a version."),
    ] = None,
    incumbent: Annotated[
        str | None, Option("--incumbent", metavar="VERSION", help="The same for the model in use.")
    ] = None,
    store: StoreUrl = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="Default: gate.json in the win rate's folder.")
    ] = None,
) -> None:
    """Decide PASS (exit code 0), FAIL (1) or INCONCLUSIVE (3) from a candidate's results.

    The verdict is recorded in the registry if both models are versions of it.

    Example: palate loop gate winrate bench --config gate.yaml --card card.json
    """
    from palate.artifacts import now, write_json
    from palate.evaluation.winrate.items import prompts_hash
    from palate.loop.gate.config import chances, gate_hash, load_gate_config
    from palate.loop.gate.decision import decide
    from palate.loop.gate.evidence import find_results, gate_prompts, read_evidence

    read = load_gate_config(config)
    prompts = gate_prompts(read)
    asked = prompts_hash(prompts)
    digest = gate_hash(read, asked)
    if not results:
        _print_config(digest, chances(read, read.alpha / 2 ** ((attempt or 1) - 1)))
        return
    if latency is not None and min(latency) <= 0:
        raise UsageError("--latency: needs two numbers above 0")
    found = find_results(results)
    evidence, origin = read_evidence(*found, read, prompts, must_pass=must_pass, card=card, latency=latency)
    path = output or found[0] / "gate.json"
    hashes = {"config_hash": digest, "prompts_hash": asked}
    fixed = {"kind": "gate", "version": 1, **hashes, "config": read.resolved(), **origin}
    with store_if_any(store) as registry:
        versions = _versions(registry, fixed, candidate, incumbent)
        number = _attempt(registry, fixed, versions, attempt)
        _check_attempt(path, number, origin["inputs"], sequential=read.sequential)
        verdict = decide(read, evidence, attempt=number)
        facts: dict[str, Any] = {
            **fixed,
            **asdict(verdict),
            "reasons": verdict.reasons,
            "chances": chances(read, verdict.alpha),
            "prompts_files": _prompts_files(read.prompts),
            "versions": None if versions is None else dict(zip(("candidate", "incumbent"), versions)),
            "when": now(),
        }
        _record(registry, versions, facts)  # before anything is printed: what was seen was decided
    write_json(path, facts)
    print_done(_text(verdict, facts, path), facts)
    raise Exit(EXIT_CODES[verdict.outcome])


def _prompts_files(prompts: str) -> list[str]:
    """The files that the prompts are in; none of a hub dataset."""
    from palate.data.sources.spec import find_sources

    return [str(file.resolve()) for source in find_sources(prompts) for file in source.files]


def _record(registry: Store | None, versions: tuple[str, str] | None, facts: Mapping[str, Any]) -> None:
    from palate.registry import record_verdict

    if registry is None or versions is None:
        print_note("not recorded: the results are not of two versions of a store (--candidate, --incumbent, --store)")
        return
    record_verdict(registry, facts)
    print_note(f"recorded in {registry.url}: attempt {facts['attempt']} of {versions[0]} against {versions[1]}")


def _versions(
    registry: Store | None, facts: Mapping[str, Any], candidate: str | None, incumbent: str | None
) -> tuple[str, str] | None:
    """The versions whose results these are; raises UsageError if an option names none."""
    from palate.registry import find
    from palate.registry.verdicts import versions_of

    given = {"candidate": candidate, "incumbent": incumbent}
    if registry is None:
        if options := [f"--{side}" for side, name in given.items() if name is not None]:
            raise UsageError(f"{options[0]}: there is no store with versions; name it with --store")
        return None
    named = {side: find(registry, name).name for side, name in given.items() if name is not None}
    return registry.read(lambda session: versions_of(session, {**facts, "versions": named}))


def _attempt(
    registry: Store | None, facts: Mapping[str, Any], versions: tuple[str, str] | None, given: int | None
) -> int:
    """The number of the attempt, as given or counted; raises UsageError if the one given is used up."""
    from palate.registry.verdicts import next_attempt

    if registry is None or versions is None:
        return given or 1
    counted = registry.read(lambda session: next_attempt(session, facts, versions))
    if given is not None and given < counted:
        raise UsageError(f"--attempt {given}: is used up by other results of {versions[0]}; this is attempt {counted}")
    return given or counted


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


def _print_config(digest: str, can_find: dict[str, float]) -> None:
    gain, *guards = can_find.items()
    lines = [f"config hash   {digest}", f"smallest gain that is found in 80 % of gates: {100 * gain[1]:.1f} points"]
    if guards:
        rows = [[name, f"{100 * chance:.0f} %"] for name, chance in guards]
        lines += ["", table(["guard", "an equal model passes"], rows, right=(1,))]
    print_done("\n".join(lines), {"config_hash": digest, "chances": can_find})


def _text(verdict: GateVerdict, facts: dict[str, Any], path: Path) -> str:
    names = ["check", "state", "found", "lower", "upper", "needed"]
    rows = []
    for check in verdict.checks:
        cells = [_cell(check, value) for value in (check.found, check.low, check.high)]
        rows.append([check.name, check.state, *cells, check.needed])
    head = f"{verdict.outcome}: {facts['candidate']} in place of {facts['incumbent']}"
    raw = "no verdict" if verdict.raw is None else verdict.raw.percent()
    bounds = f"bounds are one-sided at {100 * (1 - verdict.alpha):g} %; raw win rate {raw}"
    parts = [head, table(names, rows, right=(2, 3, 4)), bounds]
    if verdict.reasons:
        parts.append("\n".join(verdict.reasons))
    return "\n\n".join(wrapped(part, hang=2) for part in [*parts, f"verdict  {path}"])


def _cell(check: GateCheck, value: float | None) -> str:
    if value is None:
        return "–"
    share = check.part == "primary" or check.needed.endswith("%")
    return f"{100 * value:.1f} %" if share else f"{value:.4g}"
