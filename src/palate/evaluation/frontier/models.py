"""The points of a frontier from names: runs with their checkpoints, single checkpoints, and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.artifacts import SEAL, checkpoints, file_hash
from palate.errors import ArtifactError, UsageError
from palate.evaluation.accuracy.rewards import is_reward_model
from palate.evaluation.answers.table import distinct_names
from palate.evaluation.frontier.points import FrontierModel
from palate.evaluation.subject import ModelSpec, RunSpec, find_run, is_checkpoint, is_run, model_spec, read_checkpoint
from palate.models.loading.resolve import resolve_name


def frontier_models(
    names: Sequence[str], *, reference: str | None = None, with_checkpoints: bool = False, template: str | None = None
) -> tuple[list[FrontierModel], ModelSpec]:
    """The points, and the reference of all.

    A run is a point. With `with_checkpoints` its complete checkpoints are points before it, in order of steps, and
    form a group with it. A checkpoint with the same weights as the run's end is not a point of its own.

    Args:
        reference: a model; the reference of the runs if not given.
        template: chat template by name, for models outside runs.

    Raises:
        UsageError: no reference is known, the runs have different ones, or there are no checkpoints to add.
        ArtifactError: a run has not completed, or a checkpoint was not finished.
        ModelError: no model has that name.
    """
    folders = {name: _run_folder(Path(name)) for name in names}
    distinct = list(dict.fromkeys(folders.values()))
    labels = dict(zip(distinct, distinct_names(distinct), strict=True))
    points: list[FrontierModel] = []
    runs: list[RunSpec] = []
    for name in names:
        label = labels[folders[name]]
        run = find_run(name)
        if run is not None:
            runs.append(run)
            if is_run(name):
                points += _points_of(run, label, with_checkpoints=with_checkpoints)
            else:
                points.append(_checkpoint(run, Path(name), label))
        else:
            spec = model_spec(name, template=template)
            resolve_name(spec.model)  # fails now on a misspelt run
            points.append(FrontierModel(label, replace(spec, name=label), label))
    if with_checkpoints and not any(is_run(name) for name in names):
        raise UsageError("--checkpoints adds those of runs, and no run is named")
    for point in points:
        if is_reward_model(point.spec):
            raise UsageError(f"{point.name}: is a reward model, which answers nothing; name it with --reward")
    return points, _reference(runs, reference, template)


def _run_folder(path: Path) -> Path:
    """The run of a checkpoint, else the folder itself, as an absolute path."""
    if is_checkpoint(path):
        return path.resolve().parent
    return path.resolve() if path.exists() else path


def _points_of(run: RunSpec, label: str, *, with_checkpoints: bool) -> list[FrontierModel]:
    end = FrontierModel(label, run.policy, label, _method(run.config))
    if not with_checkpoints:
        return [end]
    before = []
    weights = _weights(run.path)
    for folder in reversed(checkpoints(run.path)):
        if not (folder / SEAL).is_file():
            continue
        point = _checkpoint(read_checkpoint(folder), folder, label)
        if _weights(folder) == weights:
            end = replace(end, step=point.step)
        else:
            before.append(point)
    if not before and end.step is None:
        raise UsageError(f"{run.path}: holds no complete checkpoint; train with save_strategy and save_total_limit")
    return [*before, end]


def _checkpoint(run: RunSpec, folder: Path, label: str) -> FrontierModel:
    checkpoint = folder.resolve().name
    name = f"{label}/{checkpoint}"
    step = int(checkpoint.rpartition("-")[2])
    return FrontierModel(name, replace(run.policy, name=name), label, _method(run.config), step)


def _weights(folder: Path) -> dict[str, str]:
    """Hashes of a folder's weight files, by name."""
    return {path.name: file_hash(path) for path in sorted(folder.glob("*.safetensors"))}


def _method(config: dict[str, Any]) -> str:
    """`dpo sigmoid`, `ppo`."""
    loss = config.get("pref_loss")
    named = "+".join(map(str, loss)) if isinstance(loss, dict) else loss
    return f"{config.get('stage')} {named}" if named else str(config.get("stage"))


def _reference(runs: Sequence[RunSpec], named: str | None, template: str | None) -> ModelSpec:
    if named is not None:
        # The reference must write prompts with the template that the runs were trained with.
        known = runs[0].reference.template if runs else None
        return model_spec(named, template=template or known)
    if not runs:
        raise UsageError("without a run there is no known reference; name a model with --reference")
    first = runs[0]
    for other in runs[1:]:
        if _resolved(other.reference) != _resolved(first.reference):
            raise UsageError(
                f"{first.path} was trained against {first.reference.model} and {other.path} against "
                f"{other.reference.model}{_difference(first.reference, other.reference)}; name one with --reference"
            )
    if is_reward_model(first.reference):
        raise ArtifactError(f"{first.path}: its reference is a reward model; name a model with --reference")
    return first.reference


def _resolved(spec: ModelSpec) -> ModelSpec:
    """The spec with absolute paths and without its name, to compare it with another one."""
    folders = [str(Path(path).resolve()) if Path(path).exists() else path for path in (spec.model, *spec.adapters)]
    return replace(spec, name="", model=folders[0], adapters=tuple(folders[1:]), tokens_of=())


def _difference(first: ModelSpec, other: ModelSpec) -> str:
    if first.model != other.model:
        return ""
    if first.adapters != other.adapters:
        return " with another adapter"
    return " with another template or revision"
