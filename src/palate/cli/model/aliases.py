"""`palate model promote`, `rollback` and `canary`: aliases of the registry, and shares of their people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from palate.cli.arguments import StoreUrl, opened_store
from palate.cli.console import print_done
from palate.cli.model.options import Reason, VersionName, Who, canary_line, move_line, user
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.registry import CanaryState
    from palate.registry.aliases import Move


def promote_command(
    name: VersionName,
    reason: Reason,
    alias: Annotated[str, Option("--alias", help="production, candidate, or a name of your own.")] = "production",
    force: Annotated[
        bool, Option("--force", help="Also if its last verdict is no PASS or was rejected; this is recorded.")
    ] = False,
    expect: Annotated[
        str | None, Option("--expect", metavar="VERSION", help="Only if the alias names this version now.")
    ] = None,
    who: Who = None,
    store: StoreUrl = None,
) -> None:
    """Let an alias name a version, after its files were checked. What production named before becomes previous.

    A canary of the alias ends.

    Example: palate model promote v1.1 --reason "win rate 58 % over v1.0"
    """
    from palate.registry import canary_of, promote

    with opened_store(store) as registry:
        before = registry.read(lambda session: canary_of(session, alias))
        done = promote(registry, name, alias=alias, reason=reason, who=user(who), force=force, expect=expect)
    _print(done, before, f"{alias} is {name} already")


def rollback_command(reason: Reason, who: Who = None, store: StoreUrl = None) -> None:
    """Let production name the version of previous again, after its files were checked. A canary of production ends.

    Example: palate model rollback --reason "refuses too much"
    """
    from palate.registry import canary_of, rollback

    with opened_store(store) as registry:
        before = registry.read(canary_of)
        done = rollback(registry, reason=reason, who=user(who))
    _print(done, before, "")


def canary_command(
    version: Annotated[
        str | None, Argument(metavar="VERSION", help="Name of a version, or an alias; none: show the canary.")
    ] = None,
    share: Annotated[
        float | None, Option("--share", min=0, max=1, help="Share of the alias's people: 0.1 is 10 %.")
    ] = None,
    end: Annotated[bool, Option("--end", help="End the canary: all people get the alias's version.")] = False,
    reason: Annotated[str, Option("--reason", help="Why; recorded with the share.")] = "",
    alias: Annotated[str, Option("--alias", help="Whose people they are.")] = "production",
    who: Who = None,
    store: StoreUrl = None,
) -> None:
    """Let a version answer a share of an alias's people, always the same ones, while `palate serve` runs.

    Example: palate model canary v1.1 --share 0.1 --reason "passed the gate"
    """
    from palate.registry import canary_of, set_canary

    if (version is None) != (share is None) or (end and version is not None):
        raise UsageError("name a version with its --share, or --end, or neither to see the canary")
    with opened_store(store) as registry:
        state = registry.read(lambda session: canary_of(session, alias))
        if end:
            if state is None:
                raise UsageError(f"{alias} has no canary")
            version, share = state.version, 0.0
        if version is not None and share is not None:
            state = set_canary(registry, version, share, alias=alias, who=user(who), reason=reason)
    print_done(f"{alias} has no canary" if state is None else canary_line(state), {"canary": state})


def _print(moves: Sequence[Move], ended: CanaryState | None, nothing: str) -> None:
    lines = [*map(move_line, moves)] or [f"{nothing}; nothing moved"]
    lines += [] if ended is None else [f"{ended.alias}: the canary {ended.version} ended"]
    facts = {"moves": moves, "ended_canary": None if ended is None else ended.version}
    print_done("\n".join(lines), facts)
