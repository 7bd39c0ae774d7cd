"""Copies a version of the registry to MLflow, for teams that look there; the registry stays what palate reads.

Only MLflow's public client is used (extra `mlflow`), which is imported when it is needed.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.artifacts import read_json
from palate.errors import EngineError, UsageError
from palate.registry.versions import Version

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_FILES = "model"
_LONGEST = 500
"""Characters of a parameter's value that every tracking server takes."""
_NAMES = re.compile(r"[^A-Za-z0-9_./ -]")


@dataclass(frozen=True, slots=True)
class Logged:
    """What a version became.

    Attributes:
        name: of the registered model.
        number: of its model version in MLflow.
        run_id: of the run that has files, parameters and metrics.
        new: False if the version was there already; then only its aliases and its note were written again.
    """

    name: str
    number: str
    run_id: str
    new: bool


def log_version(version: Version, target: str, *, name: str = "palate", files: bool = True) -> Logged:
    """Log a version as a run and a model version; the same version again changes only its tags.

    Args:
        version: resolved, so that its files are known to be whole.
        target: tracking URI of MLflow; or a folder, which gets `mlflow.db` and `artifacts`.
        name: of the experiment and of the registered model.
        files: whether the version's files are copied; otherwise `palate.folder` says where they are.

    Raises:
        UsageError: MLflow is not installed, or the name is none that MLflow takes.
        EngineError: MLflow does not know the URI, or the server cannot be reached or refuses.
    """
    if not re.fullmatch(r"[A-Za-z0-9_. -]+", name):
        raise UsageError(f"{name}: no name for MLflow; use letters, digits, spaces, '.', '-' and '_'")
    client, artifacts = _client(target)
    tags = _tags(version)
    with _errors(target):
        known = _known(client, name, version)
        if known is not None:
            for key, value in tags.items():
                client.set_model_version_tag(name, known.version, key, value)
            return Logged(name, str(known.version), known.run_id, False)
        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, artifacts)
        run = client.create_run(experiment_id, run_name=version.name, tags=tags)
        run_id = run.info.run_id
        try:
            _fill(client, run_id, version, files)
            if not client.search_registered_models(f"name='{name}'"):
                client.create_registered_model(name)
            source = f"{run.info.artifact_uri}/{_FILES}"
            made = client.create_model_version(name, source, run_id, tags=tags, description=version.note or None)
        except BaseException:
            client.set_terminated(run_id, "FAILED")
            raise
        client.set_terminated(run_id)
    return Logged(name, str(made.version), run_id, True)


def _client(target: str) -> tuple[MlflowClient, str | None]:
    """The client of a target, and where a new experiment has its files; None if the server decides."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it reports its use to its makers
    try:
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise UsageError("--mlflow needs MLflow's client: pip install 'palate[mlflow]'") from error
    logging.getLogger("alembic").setLevel(logging.WARNING)  # a new SQLite store reports each migration
    artifacts = None
    if "://" not in target:
        folder = Path(target).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        target, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
    with _errors(target):
        return MlflowClient(target), artifacts


def _known(client: MlflowClient, name: str, version: Version) -> Any:
    """The model version with the same content, if there is one."""
    found = client.search_model_versions(f"name='{name}'")
    return next((one for one in found if one.tags.get("palate.content_hash") == version.content_hash), None)


def _fill(client: MlflowClient, run_id: str, version: Version, files: bool) -> None:
    for key, value in _parameters(version).items():
        client.log_param(run_id, key, value)
    accuracy = version.folder / "accuracy.json"
    for key, number in _numbers(read_json(accuracy) if accuracy.is_file() else {}):
        client.log_metric(run_id, _NAMES.sub("_", key), number)
    client.log_dict(run_id, dict(version.lineage), f"{_FILES}/lineage.json")
    if files:
        client.log_artifacts(run_id, str(version.folder), _FILES)


def _tags(version: Version) -> dict[str, str]:
    votes = version.lineage.get("votes") or {}
    return {
        "palate.version": version.name,
        "palate.content_hash": version.content_hash,
        "palate.kind": version.kind,
        "palate.aliases": ", ".join(version.aliases),
        "palate.from": version.base or "",
        "palate.base": str(version.lineage["base"]["model"]),
        "palate.votes": str(votes.get("count", 0)),
        "palate.folder": str(version.folder),
        "palate.added_by": version.who,
    }


def _parameters(version: Version) -> dict[str, str]:
    """The scalar keys of the run's config, and what the lineage says of the run."""
    run = version.folder / "run.json"
    config = read_json(run).get("config", {}) if run.is_file() else {}
    given = {**config, **{f"run.{key}": value for key, value in (version.lineage.get("run") or {}).items()}}
    return {
        key: str(value)[:_LONGEST]
        for key, value in given.items()
        if isinstance(value, str | int | float) and value != ""
    }


def _numbers(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of nested mappings, by their path."""
    for key, value in facts.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


@contextmanager
def _errors(target: str) -> Iterator[None]:
    """A context in which MLflow's failures are one line without the password of the URI."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        line = " ".join(str(error).split())[:300].replace(target, _shown(target))
        raise EngineError(f"MLflow at {_shown(target)}: {line}") from error


def _shown(target: str) -> str:
    return re.sub(r"//[^/@]*@", "//", target)
