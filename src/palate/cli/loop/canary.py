"""`palate loop canary`: the decision on a running canary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from palate.cli.arguments import Overrides, StoreUrl, opened_store
from palate.cli.columns import two_columns
from palate.cli.console import print_done

_EXIT_CODES = {"PASS": 0, "ZERO": 1, "HOLD": 3}


def canary_command(
    alias: Annotated[str, typer.Option("--alias", help="Whose canary.")] = "production",
    overrides: Overrides = None,
    zero: Annotated[bool, typer.Option("--zero", help="End the canary if it is shown to be worse.")] = False,
    store: StoreUrl = None,
) -> None:
    """Decide PASS (exit code 0), ZERO (1: shown to be worse) or HOLD (3: not enough evidence) on the running canary.

    Run it as often as you like: the bounds hold at any number of answers.

    Example: palate loop canary --set days=1 --set at_least=500
    """
    from palate.loop.canary import decide_canary, read_arms, read_canary_fields, smallest_found
    from palate.registry.canary import AUTOMATON, canary_of, set_canary

    config = read_canary_fields(overrides or [])
    with opened_store(store) as registry:
        arms, state = registry.read(lambda session: (read_arms(session, alias), canary_of(session, alias)))
        verdict = decide_canary(arms, config)
        if zero and verdict.outcome == "ZERO":
            set_canary(registry, arms.canary.version, 0.0, alias=alias, who=AUTOMATON, reason=verdict.reasons[0])
    smallest = smallest_found(config, config.share if state is None else state.share)
    found = ", ".join(f"{name} +{100 * step:.1f} points" for name, step in smallest.items())
    lines: list[tuple[str, str]] = [
        (verdict.outcome, f"{arms.canary.version} as the canary of {alias}, for {arms.days:.1f} days")
    ]
    for arm in (arms.incumbent, arms.canary):
        lines.append((arm.version, f"{arm.people:,} people, {len(arm.errors):,} answers, {len(arm.downs):,} thumbs"))
    lines += [("reason", reason) for reason in verdict.reasons]
    lines.append(("detectable", f"with {config.at_least:,} answers and thumbs of the canary: {found}"))
    print_done(
        two_columns(lines, indent=0),
        {**asdict(verdict), "smallest_found": smallest, "days": arms.days, "alias": alias},
    )
    raise typer.Exit(_EXIT_CODES[verdict.outcome])
