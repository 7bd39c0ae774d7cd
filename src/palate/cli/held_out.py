"""Evaluation data that verbs leave out of training data: what `--exclude` names, and what the store knows."""

from __future__ import annotations

from collections.abc import Sequence
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
    typer.Option("--keep-evaluation", help="Also rows of evaluations that loops and gates of the store use."),
]


def held_out_files(given: Sequence[Path] | None, keep: bool, store: str | None = None) -> list[Path]:
    """The files of `--exclude`, and without `keep` those that the store's loops and gates evaluate with."""
    from palate.registry.evaluations import known_evaluations

    named = [path.resolve() for path in given or ()]
    with store_if_any(store) as opened:
        known, gone = ([], []) if opened is None else opened.read(known_evaluations)
    known, gone = ([path for path in paths if path not in named] for paths in (known, gone))
    if keep or not (known or gone):
        return list(given or ())
    if known:
        print_note(f"left out: prompts of {', '.join(map(str, known))}, which evaluates models (--keep-evaluation)")
    if gone:
        print_note(f"not left out: prompts of {', '.join(map(str, gone))}, which evaluated models and is gone")
    return [*(given or ()), *known]
