"""`palate judge`: votes from candidates, and pairs from votes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from palate.cli.arguments import ShardName
from palate.cli.judge.options import JudgeSpec, asks_judge, judge_of
from palate.cli.judge.result import print_votes
from palate.errors import UsageError
from palate.feedback.judges.settings import ApiSettings

CandidatesFile = Annotated[
    Path, Argument(metavar="CANDIDATES.jsonl", help="Candidates, as `palate generate` writes them.")
]
Output = Annotated[
    Path | None, Option("--output", "-o", metavar="FILE.jsonl", help="File of votes. Default: CANDIDATES.votes.jsonl.")
]
Pairs = Annotated[Path | None, Option("--pairs", metavar="FILE.jsonl", help="Also write pairs to train on.")]
SelectName = Annotated[
    Literal["all", "extremes"],
    Option("--select", help="Pairs that --pairs writes: all with a majority, or best against worst (extremes)."),
]
PerPrompt = Annotated[
    int | None, Option("--per-prompt", min=1, help="Compare at most this many pairs of answers per prompt.")
]
Seed = Annotated[int, Option("--seed", min=0, help="Random seed, for --per-prompt.")]

_NO_PAIR: Mapping[str, str] = {
    "tie": "tied",
    "not_extreme": "not best against worst",
    "no_verdict": "without a readable verdict",
}


@asks_judge
def command(
    candidates: CandidatesFile,
    judge: JudgeSpec,
    settings: ApiSettings,
    output: Output = None,
    pairs: Pairs = None,
    select: SelectName = "all",
    per_prompt: PerPrompt = None,
    seed: Seed = 42,
    shard: ShardName = None,
) -> None:
    """Let a judge compare the answers to each prompt, two at a time and in both orders; resumable.

    Example: palate judge candidates.jsonl --judge runs/rm --pairs pairs.jsonl
    """
    from palate.artifacts import check_writable, write_text
    from palate.feedback.candidates import read_candidates
    from palate.feedback.export.pairs import make_pairs, pair_row
    from palate.feedback.judging import collect_votes, questions
    from palate.feedback.shards import read_shard

    part = read_shard(shard)
    rows = read_candidates(candidates)
    rows = rows if part is None else part.of(rows)
    asked = questions(rows, per_prompt=per_prompt, seed=seed)
    if not asked:
        raise UsageError(f"{candidates}: no row has two different answers; generate with --k 2 or more")
    path = output or candidates.with_suffix(".votes.jsonl")
    for written in filter(None, (path, pairs)):
        check_writable(written)
    asked_judge = judge_of(judge, settings, path)
    collected = collect_votes(asked, asked_judge, path)
    lines: list[str] = []
    numbers: dict[str, Any] = {"pairs": pairs and str(pairs), "pairs_made": None}
    if pairs is not None:
        made = make_pairs(rows, collected.votes, select=select)
        found = [pair_row(pair.record()) for pair in made.pairs]
        write_text(pairs, "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in found))
        unread = len(asked) // 2 - made.compared
        left_out = {**made.left_out, **({"no_verdict": unread} if unread else {})}
        numbers |= {"pairs_made": len(found), "pairs_left_out": left_out}
        lines.append(f"pairs                {len(found)} in {pairs}")
        if left_out:
            why = ", ".join(f"{count} {_NO_PAIR.get(reason, reason)}" for reason, count in left_out.items())
            lines.append(f"no pair              {sum(left_out.values())} of {len(asked) // 2}: {why}")
    print_votes(collected, asked_judge, path, store=settings.store, lines=lines, numbers=numbers)
