"""Which checkpoint a run is resumed from, and whether it fits the config."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from palate.artifacts import RunDir, newest_complete, read_json, read_jsonl, verify_folder, write_text
from palate.errors import ArtifactError, MissingInputError
from palate.training.setup.session import Session

# Keys whose values are fixed by a checkpoint: they determine its tensors, the state of its optimiser, or its best
# evaluation.
_FIXED = (
    *("stage", "finetuning_type", "lora_rank", "lora_alpha", "lora_target", "use_dora", "use_rslora"),
    *("freeze_trainable_layers", "freeze_extra_modules", "additional_target", "create_new_adapter"),
    *("quantization_bit", "add_tokens", "add_special_tokens", "resize_vocab"),
    *("optim", "learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"),
    *("metric_for_best_model", "greater_is_better"),
)
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
_PATHS = ("output_dir", "overwrite_output_dir", "resume_from_checkpoint")


def changed_settings(run: Path, began: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lines about the keys in which a resumed run's config differs from the one that it began with.

    Raises:
        ArtifactError: a changed key is fixed by the checkpoint, so its new value would be recorded but not used.
    """
    changed = [key for key in now if key in began and began[key] != now[key] and key not in _PATHS]
    fixed = next((key for key in changed if key in _FIXED), None)
    if fixed is not None:
        raise ArtifactError(
            f"{run}: the run began with {fixed}: {began[fixed]}, the config now says {now[fixed]}, and a checkpoint "
            "cannot change it; put it back, or start a new run from the checkpoint's model"
        )
    if not changed:
        return []
    lines = ["goes on with " + ", ".join(f"{key}: {now[key]} (began with {began[key]})" for key in changed)]
    if any(key in changed for key in _BATCH):
        before, after = (math.prod(config[key] for key in _BATCH) for config in (began, now))
        if before != after:
            lines.append(
                f"warning: a step has {after} rows of each process now and had {before}: unless the number of "
                "processes makes up for it, rows of this epoch are left out or come twice"
            )
    return lines


def check_resumable(checkpoint: Path) -> None:
    """Refuse a checkpoint that is missing, incomplete, or has no optimiser state.

    Raises:
        ArtifactError: names the checkpoint and the problem.
    """
    if not checkpoint.is_dir():
        raise MissingInputError(
            f"resume_from_checkpoint: {checkpoint}: no such checkpoint folder; "
            "true takes the newest complete one in output_dir"
        )
    problems = verify_folder(checkpoint)
    if problems:
        raise ArtifactError(
            f"resume_from_checkpoint: {checkpoint}: {'; '.join(problems)}; "
            "true takes the newest complete one in output_dir"
        )
    # One file, or a folder for each process of a sharded model.
    if not any("optimizer" in path.name or path.name.startswith("global_step") for path in checkpoint.iterdir()):
        raise ArtifactError(
            f"{checkpoint}: holds the model only (save_only_model: true) and cannot be resumed; name it as "
            "model_name_or_path (or adapter_name_or_path) of a new run instead"
        )


def checkpoint_of(session: Session, folder: RunDir) -> Path | None:
    """The checkpoint to resume from, or None; prints which one, and why newer ones are skipped."""
    wanted = session.config.resume_from_checkpoint
    if not wanted:
        return None
    if isinstance(wanted, str):
        return Path(wanted)
    newest, skipped = newest_complete(folder.path)
    if newest is not None:
        check_resumable(newest)
    for path, reason in skipped:
        session.log.info(f"{path.name} is skipped: {reason}", notice=True)
    where = f"resuming from {newest.name}" if newest else "no complete checkpoint yet: starting from the beginning"
    session.log.info(where)
    return newest


def check_same_run(session: Session, folder: RunDir) -> None:
    """Print the settings and rows that changed since the run began, and refuse another base model or reference.

    Raises:
        ArtifactError: a checkpoint of this run does not fit the config.
    """
    began = folder.read()
    for line in changed_settings(folder.path, began.get("config") or {}, session.config.resolved()):
        session.log.info(line)
    rows = (began.get("data") or {}).get("identity")
    if rows not in (None, session.data.facts["identity"]):
        session.log.info(
            "warning: these are not the rows that the run began with: it continues with the new rows at this step, "
            "and its result is not that of an uninterrupted run",
            notice=True,
        )
    base = (began.get("model") or {}).get("identity")
    if session.config.finetuning_type == "lora" and base not in (None, session.policy.identity):
        raise ArtifactError(
            f"{folder.path}: the adapter was begun on the weights {base}, the config now gives "
            f"{session.policy.identity}; put model_name_or_path and adapter_name_or_path back, or start a new run"
        )
    before = began.get("reference") or {}
    if session.reference is not None and before and before.get("identity") != session.reference.identity:
        raise ArtifactError(
            f"{folder.path}: the run was started against the reference {before.get('identity')}, the config "
            f"now gives {session.reference.identity}; put model and ref_model back, or start a new run"
        )


def follow_schedule(optimizer: Any, schedule: Any) -> None:
    """Set the learning rates that the present schedule gives for the next step.

    The checkpoint has the rate of its own schedule, which is often 0 at the end: the first step of a run with a longer
    schedule would change nothing.
    """
    if isinstance(schedule, LambdaLR):
        rates = [base * share(schedule.last_epoch) for base, share in zip(schedule.base_lrs, schedule.lr_lambdas)]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates


def rewind_metrics(log: Path, checkpoint: Path | None) -> list[dict[str, Any]]:
    """Remove the rows of metrics.jsonl that will be logged again, all of them without a checkpoint; returns the rest.

    The evaluation at the checkpoint's own step is kept only if the checkpoint knows of it: the last evaluation of a run
    is made after the last checkpoint.
    """
    if checkpoint is None:
        return _keep(log, lambda _row: False)
    state = read_json(checkpoint / "trainer_state.json")
    step = int(state["global_step"])
    evaluated = any("eval_loss" in row and row["step"] == step for row in state["log_history"])
    last = ("train", "eval") if evaluated else ("train",)
    return _keep(log, lambda row: row["step"] < step or (row["step"] == step and row["split"] in last))


def rewind_samples(log: Path, checkpoint: Path | None) -> None:
    """Remove the rows of samples.jsonl that will be written again: those of the end, and without a checkpoint all."""
    _keep(log, lambda row: checkpoint is not None and row["step"] == 0)


def _keep(log: Path, wanted: Callable[[Mapping[str, Any]], bool]) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    rows = read_jsonl(log)
    kept = [row for row in rows if wanted(row)]
    if len(kept) < len(rows):
        write_text(log, "".join(json.dumps(row) + "\n" for row in kept))
    return kept
