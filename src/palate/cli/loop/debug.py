"""`palate loop debug`: why a candidate was not deployed, and what to do next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.arguments import StoreUrl, store_if_any
from palate.cli.console import print_done
from palate.errors import UsageError


def debug_command(
    results: Annotated[
        list[Path], Argument(metavar="CYCLE|RESULT", help="A cycle's folder, or result folders, a run, data, votes.")
    ],
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="For debug.html, .md and .json.")],
    last: Annotated[
        list[Path] | None,
        Option("--last", metavar="CYCLE|RUN", help="The cycle before, to compare the data with; repeatable."),
    ] = None,
    campaign: Annotated[
        str | None, Option("--campaign", metavar="NAME", help="Campaign of the store, for conflicting votes.")
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Report why a candidate was not deployed: open checks, regressions, label conflicts, data, health, next acts.

    Example: palate loop debug cycles/0002 --last cycles/0001 -o debug
    """
    from palate.artifacts import check_writable
    from palate.feedback.export.collection import collection_of_store
    from palate.loop.debug import debug_facts, find_cycle_results, why_ended
    from palate.report.pages.debug import write_debug

    check_writable(output / "debug.html")
    now = find_cycle_results(results)
    with store_if_any(store) as opened:
        if opened is None and campaign is not None:
            raise UsageError(f"--campaign {campaign}: there is no store with campaigns; name it with --store")
        if opened is not None:
            now.votes += [] if campaign is None else [collection_of_store(opened, campaign)]
            now.canary = opened.read(lambda session: why_ended(session, now.names[0]))
    facts = debug_facts(now, find_cycle_results(last) if last else None)
    written = write_debug(facts, output)
    lines = [f"{at}. {one['act']}\n   {one['why']}" for at, one in enumerate(facts["acts"], 1)]
    print_done("\n".join([*lines, *map(str, written)]), {"files": list(map(str, written)), "acts": facts["acts"]})
