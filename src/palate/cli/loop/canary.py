"""`palate loop canary`: the decision on a running canary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from palate.cli.arguments import AsJson, StoreUrl, opened_store
from palate.cli.columns import text_width, two_columns
from palate.cli.console import print_json, print_result

_EXIT_CODES = {"PASS": 0, "ZERO": 1, "HOLD": 3}


def canary_command(
    alias: Annotated[str, typer.Option("--alias", help="Whose canary.")] = "production",
    at_least: Annotated[int, typer.Option("--at-least", min=1, help="Answers of each version before a PASS.")] = 200,
    days: Annotated[float, typer.Option("--days", min=0, help="Days before a PASS.")] = 2.0,
    errors: Annotated[float, typer.Option("--errors", help="Accepted increase of the share of failed answers.")] = 0.03,
    thumbs_down: Annotated[
        float, typer.Option("--thumbs-down", min=0, help="The same for thumbs down; 0 ignores thumbs.")
    ] = 0.1,
    zero: Annotated[bool, typer.Option("--zero", help="End the canary if it is shown to be worse.")] = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Decide PASS (exit code 0), ZERO (1: worse beyond doubt) or HOLD (3: nothing is shown) on the running canary.

    It may be asked as often as one likes: the bounds hold at every number of answers.

    Example: palate loop canary --days 1
    """
    from pydantic import ValidationError

    from palate.errors import UsageError
    from palate.loop.canary import CanaryFields, decide_canary, read_arms, smallest_found
    from palate.registry.canary import AUTOMATON, canary_of, set_canary

    with opened_store(store) as registry:
        arms, state = registry.read(lambda session: (read_arms(session, alias), canary_of(session, alias)))
        try:
            config = CanaryFields(
                share=1.0 if state is None else state.share,
                at_least=at_least,
                days=days,
                errors=errors,
                thumbs_down=thumbs_down or None,
            )
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
            option = str(details["loc"][0]).replace("_", "-")
            raise UsageError(f"--{option}: {details['msg']}") from error
        verdict = decide_canary(arms, config)
        if zero and verdict.outcome == "ZERO":
            set_canary(registry, arms.canary.version, 0.0, alias=alias, who=AUTOMATON, reason=verdict.reasons[0])
    smallest = smallest_found(config)
    if as_json:
        print_json({**asdict(verdict), "smallest_found": smallest, "days": arms.days, "alias": alias})
    else:
        both = [
            (arm.version, f"{arm.people:,} people, {len(arm.errors):,} answers")
            for arm in (arms.incumbent, arms.canary)
        ]
        found = ", ".join(f"{name} +{100 * step:.1f} points" for name, step in smallest.items())
        lines = [(verdict.outcome, f"{arms.canary.version} as the canary of {alias}, for {arms.days:.1f} days"), *both]
        lines += [("reason", reason) for reason in verdict.reasons]
        lines += [("could find", f"with {at_least:,} values of the canary: {found}")]
        print_result("\n".join(two_columns(lines, width=text_width(), indent=0)))
    raise typer.Exit(_EXIT_CODES[verdict.outcome])
