"""Models that stream their answers, loaded by the names that a user gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.cli.console import print_progress
from palate.cli.models import model_path

if TYPE_CHECKING:
    from palate.feedback.page.chat import AnswerStream

_ENGINE_SECONDS = 300.0
"""Longest time of an engine's answer."""


def load_streams(
    names: tuple[str, ...], base_url: str | None, *, template: str | None, precision: str
) -> list[AnswerStream]:
    """The models in their order; one that is named twice is loaded once.

    Args:
        names: runs, checkpoints, model folders, hub ids, `openai:MODEL@URL`; with `base_url`, the engine's names.
    """
    from palate.feedback.page.chat import split_model

    specs = [split_model(name, base_url) for name in names]
    loaded = {spec: _load(*spec, template=template, precision=precision) for spec in dict.fromkeys(specs)}
    return [loaded[spec] for spec in specs]


def _load(model: str, url: str | None, *, template: str | None, precision: str) -> AnswerStream:
    from palate.evaluation.answerer import load_answerer
    from palate.models.generation.engine import Engine

    if url is None:
        print_progress(f"loading {model}")
        return load_answerer(model_path(model), None, template=template, precision=precision)
    engine = Engine(url, model, timeout=_ENGINE_SECONDS, attempts=2)  # a person waits for the answer
    engine.check_model()
    return engine
