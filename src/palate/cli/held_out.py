"""Evaluation data that verbs leave out of training data: what `--exclude` names, and what the store knows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from palate.cli.arguments import store_if_any
from palate.cli.console import print_note

Exclude: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--exclude", metavar="FILE", help="Evaluation data that must not be trained on; repeatable."),
]
KeepEvaluation: TypeAlias = Annotated[
    bool,
    typer.Option("--keep-evaluation", help="Keep rows that loops and gates of the store evaluate with."),
]


def held_out_files(given: Sequence[Path] | None, keep: bool, store: str | None = None) -> list[Path]:
    """The files of `--exclude`, and without `keep` those that the store's loops and gates evaluate with."""
    from palate.registry.evaluations import known_evaluations

    named = {path.resolve() for path in given or ()}
    with nullcontext() if keep else store_if_any(store) as opened:
        known, gone = ([], []) if opened is None else opened.read(known_evaluations)
    known = [path for path in known if path not in named]
    if known:
        print_note(f"left out: prompts of {_names(known)}, which evaluate models (--keep-evaluation keeps them)")
    if gone:
        print_note(f"not left out: prompts of {_names(gone)}, which evaluated models; the files are gone")
    return [*(given or ()), *known]


def _names(paths: Sequence[Path]) -> str:
    here = Path.cwd()
    return ", ".join(str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths)
