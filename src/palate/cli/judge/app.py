"""`palate judge`: votes by judges."""

from __future__ import annotations

import typer

from palate.cli.arguments import DefaultCommand, verb_group
from palate.cli.judge import calibrate, candidates, rescore

_DEFAULT = "candidates"

app = typer.Typer(
    cls=verb_group("judge", default=_DEFAULT),
    help="Let a judge compare the answers to each prompt, two at a time and in both orders; resumable.\n\n"
    "Example: palate judge candidates.jsonl --judge runs/rm --pairs pairs.jsonl",
)

app.command(
    _DEFAULT,
    cls=DefaultCommand,
    hidden=True,
    epilog="Also: palate judge calibrate CANDIDATES, which measures a judge against people's votes; palate judge "
    "rescore VOTES, for the verdicts of another judge or prompt on the same answers.",
)(candidates.command)
app.command("calibrate")(calibrate.command)
app.command("rescore")(rescore.command)
