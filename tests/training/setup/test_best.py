"""The best checkpoint: by which metric, in which direction, and among which evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from palate.errors import ConfigError, TrainingError
from palate.models.precision import default_device, resolve
from palate.training.callbacks import StopEarly
from palate.training.setup.arguments import training_arguments
from runs import config, distance, metrics, pairs, run, run_json, write_rows

SHAPE: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "eval_strategy": "steps",
    "eval_steps": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "load_best_model_at_end": True,
    "max_steps": 6,
    "health": "off",
}


def held_out(folder: Path, *, worse: bool) -> dict[str, Any]:
    """Pairs like those that are trained on; with `worse` the other way round, so that each step makes them worse."""
    rows = pairs(4, seed=3)
    if worse:
        rows = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    return {"eval_dataset": str(write_rows(folder / "held_out.jsonl", rows))}


def test_the_best_is_among_the_evaluations_that_left_a_checkpoint(model: Path, tmp_path: Path) -> None:
    """The very best evaluation is the first one, of which nothing is left."""
    folder = tmp_path / "run"
    run(model, folder, **{**SHAPE, "learning_rate": 1e-3}, **held_out(tmp_path, worse=True))
    losses = {row["step"]: row["loss"] for row in metrics(folder, "eval")}
    assert min(losses, key=lambda step: losses[step]) == 1
    assert distance(folder, folder / "checkpoint-2") == 0.0
    assert run_json(folder)["final_metrics"]["eval_loss"] == pytest.approx(losses[2])


@pytest.mark.parametrize(
    ("metric", "override", "best"),
    [
        ("rewards/margins", None, max),
        ("eval_rewards/margins", None, max),
        ("rewards/margins", False, min),
        ("eval_loss", None, min),
        ("rewards/rejected", None, min),
    ],
)
def test_a_metric_knows_its_direction(
    model: Path, tmp_path: Path, metric: str, override: bool | None, best: Any
) -> None:
    folder = tmp_path / "run"
    given = {"metric_for_best_model": metric, "greater_is_better": override}
    run(model, folder, **SHAPE, **given, **held_out(tmp_path, worse=False))
    evaluated = {row["step"]: row for row in metrics(folder, "eval")}
    values = {step: evaluated[step][metric.removeprefix("eval_")] for step in (2, 4, 6)}
    step = best(values, key=lambda one: values[one])
    assert distance(folder, folder / f"checkpoint-{step}") == 0.0
    assert run_json(folder)["final_metrics"]["eval_loss"] == pytest.approx(evaluated[step]["loss"])


@pytest.mark.parametrize(
    ("given", "name", "greater"),
    [
        ({}, "loss", False),
        ({"metric_for_best_model": "eval_loss"}, "loss", False),
        ({"metric_for_best_model": "accuracy"}, "rewards/accuracies", True),
        ({"metric_for_best_model": "eval_rewards/accuracies"}, "rewards/accuracies", True),
        ({"metric_for_best_model": "rewards/chosen", "greater_is_better": False}, "rewards/chosen", False),
        ({"metric_for_best_model": "entropy", "greater_is_better": True}, "entropy", True),
    ],
)
def test_directions(model: Path, tmp_path: Path, given: dict[str, Any], name: str, greater: bool) -> None:
    made = config(model, tmp_path / "run", **given)
    assert made.best_metric == (name, greater)
    device = default_device()
    arguments = training_arguments(made, tmp_path, resolve("fp32", device), device)
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == (name, greater)


def test_a_metric_of_unknown_direction_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"metric_for_best_model: bleu is not a metric .*rewards/margins.*greater_is_"
    ):
        config(model, tmp_path / "run", metric_for_best_model="bleu")


@pytest.mark.parametrize(
    ("changed", "metric", "known"),
    [
        ({"stage": "sft"}, "rewards/accuracies", "logps/chosen, loss, nll"),
        ({"reference_cache": "auto"}, "nll", "loss, ref_logps/chosen, ref_logps/rejected, rewards/accuracies"),
        ({"pref_loss": "aot"}, "nll", "loss, ref_logps/chosen"),
        ({"pref_loss": "simpo"}, "nll", "logps/chosen, logps/rejected, loss, rewards/accuracies"),
        ({"stage": "kto"}, "nll", "rewards/accuracies, rewards/chosen, rewards/margins, rewards/rejected"),
        ({"stage": "rm"}, "kl", "loss, rewards/accuracies"),
    ],
)
def test_a_metric_that_no_evaluation_has_is_refused_before_the_start(
    model: Path, tmp_path: Path, changed: dict[str, Any], metric: str, known: str
) -> None:
    health = {"health": None} if changed.get("stage") in ("sft", "rm") else {}
    given = {**SHAPE, **held_out(tmp_path, worse=False), **changed, **health, "metric_for_best_model": metric}
    with pytest.raises(ConfigError, match=f"metric_for_best_model: {metric} is not measured .*{known}"):
        run(model, tmp_path / "run", **given)
    assert not metrics(tmp_path / "run")


def test_asking_for_the_names_changes_nothing(model: Path, tmp_path: Path) -> None:
    shape = {**SHAPE, **held_out(tmp_path, worse=False), "dropout": 0.1}
    run(model, tmp_path / "named", **shape, metric_for_best_model="logps/chosen", greater_is_better=False)
    run(model, tmp_path / "plain", **shape)
    assert metrics(tmp_path / "named") == metrics(tmp_path / "plain")


def test_early_stopping_counts_every_evaluation(model: Path, tmp_path: Path) -> None:
    """Checkpoints are rarer than evaluations: the third one in a row that is no better ends the run."""
    shape = {**SHAPE, "save_steps": 4, "early_stopping_patience": 3, **held_out(tmp_path, worse=True)}
    folder = tmp_path / "run"
    run(model, folder, **shape)
    assert [row["step"] for row in metrics(folder, "eval")][:4] == [1, 2, 3, 4]
    assert metrics(folder)[-1]["step"] == 4
    assert distance(folder, folder / "checkpoint-4") == 0.0


def test_early_stopping_compares_with_the_best_evaluation() -> None:
    class Arguments:
        greater_is_better = True

    stop = StopEarly(9)
    for value, failed in ((0.5, 0), (0.4, 1), (0.5, 2), (0.6, 0), (0.55, 1)):
        stop.check_metric_value(Arguments(), None, None, value)  # type: ignore[arg-type]
        assert stop.early_stopping_patience_counter == failed


def test_a_metric_that_the_held_out_rows_have_no_value_of_ends_the_run_in_one_line(model: Path, tmp_path: Path) -> None:
    """kto measures a margin between wanted and unwanted answers; here only wanted ones are held out."""
    rows = [{"prompt": row["prompt"], "completion": row["chosen"], "label": True} for row in pairs(3, seed=3)]
    given = {**SHAPE, "stage": "kto", "eval_dataset": str(write_rows(tmp_path / "wanted.jsonl", rows))}
    with pytest.raises(TrainingError, match=r"no held-out row has a value of rewards/margins; choose from .*loss"):
        run(model, tmp_path / "run", **given, metric_for_best_model="rewards/margins")
