"""Models by the names that a user gives: versions and aliases of the registry become folders, others stay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from palate.cli.arguments import opened_store
from palate.cli.console import print_note, print_progress
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.feedback.page.chat import AnswerStream

Name = TypeVar("Name", str, None, str | None)

_ENGINE_SECONDS = 300.0
"""Longest time of an engine's answer."""


def model_path(name: Name, store: str | None = None) -> Name:
    """The folder of a version or alias of the registry, whose files are checked; any other name as it is.

    A folder of that name is taken before the registry.

    Raises:
        ArtifactError: the version's files are not what was added.
        StoreError: the database cannot be opened.
    """
    if name is None or Path(name).exists():
        return name

    from palate.registry.add import NAME
    from palate.store import store_url
    from palate.store.urls import parse_url

    if not NAME.match(name):  # paths, hub ids, models in engines
        return name
    place = parse_url(store_url(store))
    if place.get_backend_name() == "sqlite" and not Path(place.database or "").is_file():
        return name

    from palate.registry import resolve

    with opened_store(store) as registry:
        try:
            version = resolve(registry, name)
        except UsageError:  # no version or alias
            return name
    print_note(f"{name} is version {version.name} in {version.folder}")
    return str(version.folder)


def model_paths(names: Sequence[str], store: str | None = None) -> list[str]:
    return [model_path(name, store) for name in names]


def with_model_paths(config: str, changes: Sequence[str]) -> list[str]:
    """The overrides of a training config, and one for each of its own keys that names a version or alias."""
    from palate.config.load import overridden
    from palate.config.reader import read_config_file
    from palate.config.stages.model import MODEL_KEYS

    entries = overridden(read_config_file(config), changes).entries
    added = []
    for key in MODEL_KEYS:
        value = entries[key].value if key in entries else None
        if isinstance(value, str) and (found := model_path(value)) != value:
            added.append(f"{key}={json.dumps(found)}")
    return [*changes, *added]


def load_streams(
    names: tuple[str, ...], base_url: str | None, *, template: str | None, precision: str
) -> list[AnswerStream]:
    """Models that stream their answers, in the order of the names; one that is named twice is loaded once.

    Args:
        names: runs, checkpoints, model folders, hub ids, `openai:MODEL@URL`; with `base_url`, the engine's names.
    """
    from palate.feedback.page.chat import split_model

    specs = [split_model(name, base_url) for name in names]
    loaded = {spec: _load(*spec, template=template, precision=precision) for spec in dict.fromkeys(specs)}
    return [loaded[spec] for spec in specs]


def _load(model: str, url: str | None, *, template: str | None, precision: str) -> AnswerStream:
    from palate.evaluation.answers.answerer import load_answerer
    from palate.models.generation.endpoints.engine import Engine

    if url is None:
        print_progress(f"loading {model}")
        return load_answerer(model_path(model), None, template=template, precision=precision)
    engine = Engine(url, model, timeout=_ENGINE_SECONDS, attempts=2)  # a person waits for the answer
    engine.check_model()
    return engine
