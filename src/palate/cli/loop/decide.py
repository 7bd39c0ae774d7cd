"""`palate loop sign`, `force`, `reject` and `canary`: decisions of a person on a verdict, and of a test on a canary."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from typer import Argument, Exit, Option

from palate.cli.arguments import Overrides, StoreUrl, opened_store
from palate.cli.columns import two_columns
from palate.cli.console import print_done, print_note
from palate.cli.model.options import Who, user
from palate.errors import UsageError

Candidate = Annotated[str, Argument(metavar="CANDIDATE", help="Name of the version, or an alias.")]
Why = Annotated[str, Option("--reason", help="Why; recorded with the decision.")]


def sign_command(candidate: Candidate, reason: Why, who: Who = None, store: StoreUrl = None) -> None:
    """Sign the last verdict on a version, a PASS: it may be deployed.

    Example: palate loop sign v1.1 --reason "read 20 answers"
    """
    _decide("sign", candidate, reason, who, store)


def force_command(candidate: Candidate, reason: Why, who: Who = None, store: StoreUrl = None) -> None:
    """Allow a version although its last verdict is no PASS or was rejected. It stays visible as forced.

    Example: palate loop force v1.1 --reason "fixes a leak of private data"
    """
    _decide("force", candidate, reason, who, store)


def reject_command(candidate: Candidate, reason: Why, who: Who = None, store: StoreUrl = None) -> None:
    """Reject a version whatever its last verdict is: it is deployed by force only.

    Example: palate loop reject v1.1 --reason "too many refusals"
    """
    _decide("reject", candidate, reason, who, store)


def _decide(
    action: Literal["sign", "force", "reject"], candidate: str, reason: str, who: str | None, store: str | None
) -> None:
    from sqlalchemy import select

    from palate.registry import decide, find, verdicts
    from palate.store.loop_tables import Cycle

    with opened_store(store) as registry:
        found = registry.read(lambda session: verdicts(session, candidate))
        if not found:  # an alias; the verdicts on a version outlive it
            name = find(registry, candidate).name
            found = registry.read(lambda session: verdicts(session, name))
        if not found:
            raise UsageError(f"there is no verdict on {candidate}; palate loop gate makes one")
        last = found[-1]
        cycle = select(Cycle.outcome).where(Cycle.id == last.cycle_id)
        ended = registry.read(lambda session: session.scalar(cycle)) is not None
        decide(registry, last.id, action, who=user(who), reason=reason)
    done = {"sign": "signed", "force": "forced", "reject": "rejected"}[action]
    text = f"{done}: {last.candidate}, whose verdict is {last.outcome} (attempt {last.attempt})"
    facts = {"candidate": last.candidate, "verdict": last.outcome, "attempt": last.attempt}
    print_done(text, {"decision": done, **facts})
    if ended and action != "reject":
        print_note(f"its cycle has ended and deploys nothing; palate model promote {last.candidate} --reason … does")


_EXIT_CODES = {"PASS": 0, "ZERO": 1, "HOLD": 3}


def canary_command(
    alias: Annotated[str, Option("--alias", help="Whose canary.")] = "production",
    overrides: Overrides = None,
    zero: Annotated[bool, Option("--zero", help="End the canary if it is shown to be worse.")] = False,
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
        two_columns(lines, indent=0), {**asdict(verdict), "smallest_found": smallest, "days": arms.days, "alias": alias}
    )
    raise Exit(_EXIT_CODES[verdict.outcome])
