"""`palate judge`: candidates become votes, and votes become pairs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.feedback.pairs import Select
    from palate.feedback.votes import VoteSummary

CandidatesFile = Annotated[
    Path, typer.Argument(metavar="CANDIDATES.jsonl", help="Candidates, as `palate generate` writes them.")
]
JudgeSpec = Annotated[
    str,
    typer.Option(
        "--judge", help="length:shorter, lexicon:FILE, module:function, file.py:function, or a reward model's folder."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE.jsonl", help="File of votes; default: CANDIDATES.votes.jsonl."),
]
Pairs = Annotated[Path | None, typer.Option("--pairs", metavar="FILE.jsonl", help="Also write pairs to train on.")]
SelectName = Annotated[
    str, typer.Option("--select", help="Pairs per row: all that a majority decides, or extremes (best against worst).")
]
PerPrompt = Annotated[
    int | None, typer.Option("--per-prompt", min=1, help="Most pairs of answers to ask about for each prompt.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw of --per-prompt.")]


def command(
    candidates: CandidatesFile,
    judge: JudgeSpec,
    output: Output = None,
    pairs: Pairs = None,
    select: SelectName = "all",
    per_prompt: PerPrompt = None,
    seed: Seed = 42,
    as_json: AsJson = False,
) -> None:
    """Ask a judge about each two answers to each prompt, in both orders; resumable."""
    if select not in ("all", "extremes"):
        raise UsageError(f"--select {select}: is not one of all, extremes")

    from palate.feedback.candidates import read_candidates
    from palate.feedback.judges import load_judge
    from palate.feedback.judging import collect_votes, questions
    from palate.feedback.votes import summarise

    rows = read_candidates(candidates)
    asked = questions(rows, per_prompt=per_prompt, seed=seed)
    if not asked:
        raise UsageError(f"{candidates}: no row has two different answers; generate with --k 2 or more")
    path = output or candidates.with_suffix(".votes.jsonl")
    cast = collect_votes(asked, load_judge(judge), path)
    summary = summarise(cast)
    made = _write_pairs(rows, cast, "extremes" if select == "extremes" else "all", pairs) if pairs else None
    if as_json:
        result_json({"votes": str(path), **_numbers(summary), "pairs": pairs and str(pairs), "pairs_made": made})
        return
    lines = [*summary.lines(), f"votes are in         {path}"]
    if made is not None:
        lines.append(f"pairs                {made} in {pairs}")
    result("\n".join(lines))


def _write_pairs(rows: Any, cast: Any, select: Select, path: Path) -> int:
    from palate.artifacts import write_text
    from palate.feedback.pairs import pairs_from_votes

    made = pairs_from_votes(rows, cast, select=select)
    write_text(path, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in made))
    return len(made)


def _numbers(summary: VoteSummary) -> dict[str, Any]:
    numbers = asdict(summary)
    numbers["count"] = numbers.pop("votes")
    return numbers
