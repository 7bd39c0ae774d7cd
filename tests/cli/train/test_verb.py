"""`palate train` hands config and notices to the training package and prints what came of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch.distributed as dist

from palate.cli.main import main
from palate.config.run import RunConfig
from palate.errors import TrainingError


@dataclass
class Done:
    output_dir: Path = Path("runs/a")
    status: str = "completed"
    metrics: dict[str, float] = field(
        default_factory=lambda: {"loss": 0.5, "rewards/accuracies": 0.75, "eval_rewards/accuracies": 0.7, "other": 1.0}
    )
    report: Path | None = None


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunConfig, tuple[str, ...]]]:
    """A training package of two lines, and what it was asked."""
    seen: list[tuple[RunConfig, tuple[str, ...]]] = []

    def train(config: RunConfig, *, notices: Sequence[str] = (), judges: Any = None) -> Done:
        seen.append((config, tuple(notices)))
        return Done()

    room: Any = ModuleType("palate.training.run")
    room.train = train
    monkeypatch.setitem(sys.modules, "palate.training.run", room)
    report: Any = ModuleType("palate.report.pages.run")
    report.write_run_report = lambda run: Path(run) / "report.html"
    monkeypatch.setitem(sys.modules, "palate.report.pages.run", report)
    return seen


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(
        "stage: dpo\nmodel_name_or_path: model\ndataset: pairs.jsonl\noutput_dir: runs/a\nbf16: true\n",
        encoding="utf-8",
    )
    return str(path)


@pytest.mark.parametrize("form", [[], ["--config_file"], ["--config-file"]])
def test_both_forms_of_the_command_run(
    calls: list[tuple[RunConfig, tuple[str, ...]]],
    config_file: str,
    form: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", *form, config_file, "--set", "seed=7", "--set", "learning_rate=5e-7"]) == 0
    ((config, notices),) = calls
    assert (config.seed, config.learning_rate, config.precision) == (7, 5e-7, "bf16")
    assert notices == ("bf16: true is read as precision: bf16",)
    assert capsys.readouterr().err == "palate: note: bf16: true is read as precision: bf16\n"


def test_overrides_may_stand_alone(calls: list[tuple[RunConfig, tuple[str, ...]]], config_file: str) -> None:
    assert main(["train", config_file, "--set", "seed=7", "max_steps=3"]) == 0
    assert (calls[0][0].seed, calls[0][0].max_steps) == (7, 3)


def test_the_summary(
    calls: list[tuple[RunConfig, tuple[str, ...]]], config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", config_file]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {line[:30].strip(): line[30:] for line in lines}
    assert shown == {
        "status": "completed",
        "run directory": "runs/a",
        "report": "runs/a/report.html",
        "last step loss": "0.5000",
        "last step rewards/accuracies": "0.7500",
        "held-out rewards/accuracies": "0.7000",
    }


def test_the_result_for_machines(
    calls: list[tuple[RunConfig, tuple[str, ...]]], config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", config_file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "status": "completed",
        "output_dir": "runs/a",
        "report": "runs/a/report.html",
        "metrics": Done().metrics,
    }


def test_other_processes_print_nothing(
    calls: list[tuple[RunConfig, tuple[str, ...]]],
    config_file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["train", config_file]) == 0
    assert main(["train", config_file, "--json"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_wrong_config_is_said_before_anything_is_loaded(
    calls: list[tuple[RunConfig, tuple[str, ...]]], config_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", config_file, "--set", "seed=x"]) == 2
    assert capsys.readouterr().err == "palate: error: --set: seed must be a whole number, not x\n"
    assert calls == []


def test_a_process_leaves_its_group_at_the_end(
    calls: list[tuple[RunConfig, tuple[str, ...]]], config_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gloo's threads may abort a process that ends as a member of a group."""

    def fails(*_: Any, **__: Any) -> Done:
        raise TrainingError("the loss is not finite")

    room: Any = sys.modules["palate.training.run"]
    for train, code in ((room.train, 0), (fails, 1)):
        monkeypatch.setattr(room, "train", train)
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        try:
            assert main(["train", config_file]) == code
            assert not dist.is_initialized()
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
