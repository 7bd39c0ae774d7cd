"""`palate model promote` and `rollback`: aliases of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.arguments import AsJson, StoreUrl, opened_store
from palate.cli.console import print_json, print_result
from palate.cli.model.options import Reason, VersionName, Who, move_line, user

if TYPE_CHECKING:
    from palate.registry.aliases import Move


def promote_command(
    name: VersionName,
    reason: Reason,
    alias: Annotated[str, typer.Option("--alias", help="production, candidate, or a name of your own.")] = "production",
    who: Who = None,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Let an alias name a version, after its files were checked. What production named before becomes previous.

    Example: palate model promote v1.1 --reason "win rate 58 % over v1.0"
    """
    from palate.registry import promote

    with opened_store(store) as registry:
        _print(
            promote(registry, name, alias=alias, reason=reason, who=user(who)), f"{alias} is {name} already", as_json
        )


def rollback_command(reason: Reason, who: Who = None, store: StoreUrl = None, as_json: AsJson = False) -> None:
    """Let production name the version of previous again, after its files were checked.

    Example: palate model rollback --reason "refuses too much"
    """
    from palate.registry import rollback

    with opened_store(store) as registry:
        _print(rollback(registry, reason=reason, who=user(who)), "", as_json)


def _print(moves: Sequence[Move], nothing: str, as_json: bool) -> None:
    if as_json:
        print_json({"moves": moves})
    else:
        print_result("\n".join(map(move_line, moves)) or f"{nothing}; nothing moved")
