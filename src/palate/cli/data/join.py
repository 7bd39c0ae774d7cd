"""`palate data join`: the shards of a candidates file in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.charts.text import amount
from palate.cli.console import print_done


def join_command(
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD.jsonl...", help="All shards, in any order.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.jsonl", help="The joined file.")],
) -> None:
    """Join the shards of `palate generate --shard` into the file of a run without shards.

    Example: palate data join shards/*.jsonl --output candidates.jsonl
    """
    from palate.feedback.shards import join_shards

    rows = join_shards(shards, output)
    text = f"{output}: {amount(rows, 'row')} of {amount(len(shards), 'shard')}"
    print_done(text, {"path": str(output), "rows": rows, "shards": len(shards)})
