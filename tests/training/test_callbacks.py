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

from palate.artifacts import checkpoints, verify_folder
from palate.cli.main import main
from palate.training.callbacks import StopOnSignal
from runs import command, config_file, distance, metrics, run, run_json, values

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
    assert "stopping after this step" in first
    assert last == "palate: error: a second signal ended the run at once"


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
