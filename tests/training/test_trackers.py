"""`report_to: mlflow` and `trackio`: the metrics of a run arrive there.

`PALATE_MLFLOW_PYTHON` names an interpreter with `mlflow-skinny` and what palate needs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from runs import config_file, metrics, run, run_json, values
from tiny import save_tiny, tiny_tokenizer

PYTHON = os.environ.get("PALATE_MLFLOW_PYTHON", sys.executable)
READ = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
(experiment,) = client.search_experiments(filter_string="name = 'tastes'")
(one,) = client.search_runs([experiment.experiment_id])
steps = [[point.step, point.value] for point in client.get_metric_history(one.info.run_id, "loss")]
print(json.dumps({"name": one.info.run_name, "status": one.info.status, "loss": steps}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("trackers") / "model", tokenizer=tiny_tokenizer(size=400))


class Trackio(ModuleType):
    """The functions of trackio that transformers calls; keeps what they got."""

    __version__ = "0.30.0"

    def __init__(self) -> None:
        super().__init__("trackio")
        self.__spec__ = ModuleSpec("trackio", None)
        self.started: dict[str, Any] = {}
        self.config: Any = type("Config", (dict,), {"update": lambda self, values, **_: dict.update(self, values)})()
        self.logged: list[dict[str, Any]] = []
        self.finished = False
        self.context_vars = ModuleType("context_vars")
        self.context_vars.current_space_id = ContextVar("space", default=None)  # type: ignore[attr-defined]

    def init(self, **given: Any) -> None:
        self.started = given

    def log(self, values: dict[str, Any], *_: Any, **__: Any) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished = True


def test_trackio_gets_the_metrics_under_the_projects_name(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    run(model, tmp_path / "run", max_steps=2, report_to="trackio", project="tastes", run_name="first")
    assert (fake.started["project"], fake.started["name"], fake.started["space_id"]) == ("tastes", "first", None)
    losses = [row["train/loss"] for row in fake.logged if "train/loss" in row]
    assert losses == pytest.approx([row["loss"] for row in metrics(tmp_path / "run")])
    assert fake.finished
    assert run_json(tmp_path / "run")["status"] == "completed"


@pytest.mark.slow
def test_mlflow_gets_the_metrics_of_every_step(model: Path, tmp_path: Path) -> None:
    if subprocess.run([PYTHON, "-c", "import mlflow"], capture_output=True, check=False).returncode:
        pytest.skip("mlflow-skinny is not installed; name an interpreter that has it: PALATE_MLFLOW_PYTHON")
    given = values(model, tmp_path / "run", max_steps=2, report_to="mlflow", run_name="first")
    path = config_file(tmp_path / "run.yaml", given)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    places = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "tastes", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [PYTHON, "-m", "palate", "train", str(path), "--json", "--quiet"],
        env={**os.environ, "OMP_NUM_THREADS": "1", **places},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "completed"
    read = subprocess.run([PYTHON, "-c", READ, uri], capture_output=True, text=True, check=True)
    found = json.loads(read.stdout)
    assert (found["name"], found["status"]) == ("first", "FINISHED")
    expected = [[row["step"], pytest.approx(row["loss"])] for row in metrics(tmp_path / "run")]
    assert sorted(found["loss"]) == expected
