"""Signals on a real process: a checkpoint, `stopped`, the exit code of the shell, and a resume that ends alike."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palate.artifacts import checkpoints, read_jsonl, verify_folder
from palate.cli.main import main
from palate.errors import ArtifactError, BatchStop, Stopped
from palate.models.reference.kinds import PolicyAtStart
from palate.training.callbacks import StopOnSignal
from palate.training.trainer import PalateTrainer
from runs import command, config_file, distance, logged, metrics, run, run_json, values

# Long enough to be met while it runs, short enough to be run to its end.
SHAPE: dict[str, Any] = {"per_device_train_batch_size": 2, "num_train_epochs": 30, "learning_rate": 1e-4}


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(model, folder, **SHAPE)
    return folder


def wait_for_steps(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    log = folder / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    pytest.fail(f"no {count} steps: {process.communicate()[1]}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_after_the_step_and_a_resume_ends_alike(
    model: Path, tmp_path: Path, whole: Path, number: int, code: int
) -> None:
    folder = tmp_path / "run"
    given = values(model, folder, **SHAPE)
    with subprocess.Popen(**command("train", config_file(tmp_path / "config.json", given))) as process:
        wait_for_steps(folder, 3, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("palate: error: stopped at step ")
    assert "resume_from_checkpoint=true" in last
    assert "Traceback" not in err
    assert run_json(folder)["status"] == "stopped"
    (checkpoint,) = checkpoints(folder)
    assert verify_folder(checkpoint) == []
    stopped_at = len(metrics(folder))
    assert checkpoint.name == f"checkpoint-{stopped_at}"
    assert stopped_at < 120
    assert not (folder / "model.safetensors").exists()

    run(model, folder, **SHAPE, resume_from_checkpoint=True)
    assert run_json(folder)["status"] == "completed"
    assert distance(folder, whole) == 0.0
    assert metrics(folder) == metrics(whole)


def test_a_second_signal_stops_at_once_with_that_signals_code(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def training() -> None:
        stop = StopOnSignal(torch.device("cpu"))
        stop.install()
        stop.on_train_begin(None, None, None)  # type: ignore[arg-type]
        try:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)
        finally:
            stop.restore()

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("palate.cli.main.app", lambda **_: training())
    assert main(["train", "run.yaml"]) == 143
    assert signal.getsignal(signal.SIGTERM) is before
    first, last = capfd.readouterr().err.strip().splitlines()
    assert "stopping after this batch" in first
    assert last == "palate: error: a second signal ended the run at once"


@pytest.mark.parametrize(
    "changed",
    [
        {"pref_loss": "sigmoid", "finetuning_type": "lora", "lora_target": "all", "lora_dropout": 0.3},
        {"pref_loss": "bco_pair"},  # carries a running mean and scores the whole step first
    ],
    ids=["dropout", "bco_pair"],
)
def test_a_signal_between_two_batches_of_a_step_loses_that_step_only(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]
) -> None:
    shape = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "num_train_epochs": 3, **changed}
    run(model, tmp_path / "whole", **shape)
    asked = 0

    def between_batches(stop: StopOnSignal) -> None:
        nonlocal asked
        asked += 1
        if asked == 6:  # the second batch of the third step
            raise BatchStop(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(StopOnSignal, "between_batches", between_batches)
        with pytest.raises(Stopped, match="stopped at step 2 of 6 with a checkpoint") as stopped:
            run(model, tmp_path / "run", **shape)
    assert stopped.value.exit_code == 130
    assert [one.name for one in checkpoints(tmp_path / "run")] == ["checkpoint-2"]
    run(model, tmp_path / "run", **shape, resume_from_checkpoint=True)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert distance(tmp_path / "run", tmp_path / "whole") == 0.0


def test_a_signal_during_the_reference_pass_keeps_what_was_scored(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"reference_cache": str(tmp_path / "reference.safetensors"), "max_tokens_per_batch": 32}
    score, passes = PolicyAtStart.logps, 0

    def interrupted(live: PolicyAtStart, batches: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return score(live, batches)

    with monkeypatch.context() as patched:
        patched.setattr(PolicyAtStart, "logps", interrupted)
        with pytest.raises(Stopped, match="stopped before the end of the first step"):
            run(model, tmp_path / "run", **shape)
    assert run_json(tmp_path / "run")["status"] == "stopped"
    kept = load_file(tmp_path / "reference.safetensors")["lengths"]
    assert 0 < len(kept) < 8
    run(model, tmp_path / "run", **shape, resume_from_checkpoint=True)
    assert run_json(tmp_path / "run")["status"] == "completed"
    assert len(load_file(tmp_path / "reference.safetensors")["lengths"]) == 8


def test_a_signal_after_the_last_step_leaves_a_run_that_only_has_to_be_finished(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(model, tmp_path / "whole")

    def interrupted(*_: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        return {}

    with monkeypatch.context() as patched:
        patched.setattr("palate.training.run._Training._evaluate", interrupted)
        with pytest.raises(Stopped) as stopped:
            run(model, tmp_path / "run")
    assert stopped.value.exit_code == 143
    run(model, tmp_path / "run", resume_from_checkpoint=True)
    assert run_json(tmp_path / "run")["status"] == "completed"
    assert distance(tmp_path / "run", tmp_path / "whole") == 0.0


def test_a_signal_during_an_evaluation_stops_after_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"val_size": 0.25, "eval_strategy": "steps", "eval_steps": 1, "num_train_epochs": 3, "health": "off"}
    shape["per_device_train_batch_size"] = 2
    run(model, tmp_path / "whole", **shape)
    evaluate = PalateTrainer.evaluation_loop

    def interrupted(trainer: PalateTrainer, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(trainer, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(PalateTrainer, "evaluation_loop", interrupted)
        with pytest.raises(Stopped, match="stopped at step 2"):
            run(model, tmp_path / "run", **shape)
    last = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))[-1]
    assert (last["step"], last["split"]) == (2, "eval")
    run(model, tmp_path / "run", **shape, resume_from_checkpoint=True)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")


@pytest.mark.parametrize(("strategy", "step"), [("steps", 2), ("epoch", 1), ("epoch", 4), ("steps", 8)])
def test_a_signal_in_a_step_neither_adds_nor_loses_an_evaluation(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, step: int
) -> None:
    """The first evaluation is the best one: a run that stops before it must not lose it."""
    shape = {"val_size": 4, "per_device_train_batch_size": 2, "rows": 12, "num_train_epochs": 2, "health": "off"}
    shape |= {"eval_strategy": strategy, "save_strategy": strategy, "eval_steps": 2, "save_steps": 2}
    shape |= {"load_best_model_at_end": True, "metric_for_best_model": "rewards/margins", "greater_is_better": False}
    run(model, tmp_path / "whole", **shape)
    finish = PalateTrainer.finish_step

    def interrupted(trainer: PalateTrainer) -> Any:
        if trainer.state.global_step == step:
            os.kill(os.getpid(), signal.SIGINT)
        return finish(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(PalateTrainer, "finish_step", interrupted)
        with pytest.raises(Stopped, match=f"stopped at step {step}"):
            run(model, tmp_path / "run", **shape)
    assert len(metrics(tmp_path / "run")) == step
    if step < 8:
        assert step not in [row["step"] for row in metrics(tmp_path / "run", "eval")]
    run(model, tmp_path / "run", **shape, resume_from_checkpoint=True)
    for split in ("train", "eval"):
        assert logged(tmp_path / "run", split) == logged(tmp_path / "whole", split)
    assert distance(tmp_path / "run", tmp_path / "whole") == 0.0


def test_a_kill_leaves_a_run_that_resumes(model: Path, tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    given = values(model, folder, **SHAPE, save_strategy="steps", save_steps=20, save_total_limit=2)
    with subprocess.Popen(**command("train", config_file(tmp_path / "config.json", given))) as process:
        wait_for_steps(folder, 45, process)
        process.kill()
        process.communicate(timeout=60)
    assert run_json(folder)["status"] == "running"
    run(model, folder, **SHAPE, save_strategy="steps", save_steps=20, save_total_limit=2, resume_from_checkpoint=True)
    assert run_json(folder)["status"] == "completed"
    assert distance(folder, whole) == 0.0
    assert [row["step"] for row in metrics(folder)] == list(range(1, 121))


def test_a_cache_that_cannot_be_written_is_refused_before_the_reference_is_scored(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(*_: Any) -> None:
        pytest.fail("the reference was scored first")

    monkeypatch.setattr(PolicyAtStart, "logps", scored)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ArtifactError, match="cannot be written, a file or folder of another kind is in the way"):
        run(model, tmp_path / "run", reference_cache=str(tmp_path / "file" / "reference.safetensors"))
