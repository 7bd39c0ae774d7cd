"""`palate loop sign`, `force` and `reject`: what a person decides on the last verdict on a version."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from palate.cli.arguments import StoreUrl, opened_store
from palate.cli.console import print_done, print_note
from palate.cli.model.options import Who, user
from palate.errors import UsageError

Candidate = Annotated[str, typer.Argument(metavar="CANDIDATE", help="Name of the version, or an alias.")]
Why = Annotated[str, typer.Option("--reason", help="Why; recorded with the decision.")]


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
    action: Literal["sign", "force", "reject"],
    candidate: str,
    reason: str,
    who: str | None,
    store: str | None,
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
