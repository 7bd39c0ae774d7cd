"""Options and output that the verbs of `palate model` share."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typer import Argument, Option

if TYPE_CHECKING:
    from palate.registry import CanaryState
    from palate.registry.aliases import Move
    from palate.store import Store

ModelsDir: TypeAlias = Annotated[
    Path | None,
    Option(
        "--models-dir",
        metavar="FOLDER",
        envvar="PALATE_MODELS",
        help="Folder of the versions. Default: palate-models beside palate.db.",
    ),
]
Who: TypeAlias = Annotated[str | None, Option("--who", help="Who does it. Default: the user of this machine.")]
Reason: TypeAlias = Annotated[str, Option("--reason", help="Why the alias moves; recorded with the move.")]
VersionName: TypeAlias = Annotated[str, Argument(metavar="VERSION", help="Name of a version, or an alias.")]


def models_dir(given: Path | None, store: Store) -> Path:
    """The folder of `--models-dir`, else the store's own."""
    from palate.registry.add import default_models_dir

    return given if given is not None else default_models_dir(store)


def user(given: str | None) -> str:
    """Who is named, else the user of this machine."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def move_line(move: Move) -> str:
    action = "" if move.action == "promote" else f" ({move.action})"
    return f"{move.alias}: {move.before or 'none'} → {move.version}{action}"


def canary_line(state: CanaryState) -> str:
    """A share of people for a person."""
    if state.share == 0:
        return f"{state.alias}: the canary {state.version} ended"
    return f"{state.alias}: {100 * state.share:g} % of people get {state.version}"
