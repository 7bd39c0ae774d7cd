"""A version in MLflow: run, files, metrics and model version, read back with MLflow's own client.

`PALATE_MLFLOW_PYTHON` names an interpreter with `mlflow-skinny` and what palate needs; without it, and without MLflow
here, the test of both is skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from model_folders import as_run, fake_adapter, fake_model
from palate.artifacts import write_json
from palate.cli.main import main
from palate.registry import add, promote
from palate.store import open_store

PYTHON = os.environ.get("PALATE_MLFLOW_PYTHON", sys.executable)
READ = """
import json, sys
from mlflow.tracking import MlflowClient
client = MlflowClient(sys.argv[1])
(experiment,) = client.search_experiments(filter_string="name = 'palate'")
found = []
for one in client.search_model_versions("name='palate'"):
    run = client.get_run(one.run_id)
    files = [file.path for file in client.list_artifacts(one.run_id, "model")]
    found.append({"number": one.version, "tags": one.tags, "source": one.source, "note": one.description,
                  "files": files, "params": run.data.params, "metrics": run.data.metrics, "status": run.info.status})
runs = client.search_runs([experiment.experiment_id])
print(json.dumps({"versions": found, "runs": len(runs)}))
"""


@pytest.fixture
def registry(tmp_path: Path) -> str:
    """A store with an adapter of a run, which is production, and its base."""
    url = f"sqlite:///{tmp_path / 'palate.db'}"
    store = open_store(url, create=True)
    base = add(store, fake_model(tmp_path / "base"), models_dir=tmp_path / "models", who="ann").version.folder
    run = as_run(fake_adapter(tmp_path / "run", base, 1.0), base, votes=("v1", "v2"))
    write_json(run / "accuracy.json", {"accuracy": {"estimate": 0.75, "low": 0.6, "n": 40}, "pairs": 40, "name": "x"})
    add(store, run, models_dir=tmp_path / "models", who="ann", note="of March")
    promote(store, "v1.1", reason="better", who="ann")
    store.close()
    return url


def export(registry: str, name: str, target: str, *words: str) -> Any:
    command = [PYTHON, "-m", "palate", "model", "export", name, "--mlflow", target, "--store", registry, "--json"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def read(uri: str) -> Any:
    done = subprocess.run([PYTHON, "-c", READ, uri], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_versions_are_runs_and_model_versions_and_the_same_one_is_there_once(registry: str, tmp_path: Path) -> None:
    if subprocess.run([PYTHON, "-c", "import mlflow"], capture_output=True, check=False).returncode:
        pytest.skip("mlflow-skinny is not installed; name an interpreter that has it: PALATE_MLFLOW_PYTHON")
    target = tmp_path / "tracking"
    first = export(registry, "production", str(target))
    assert (first["version"], first["name"], first["number"], first["new"]) == ("v1.1", "palate", "1", True)
    uri = f"sqlite:///{target / 'mlflow.db'}"
    export(registry, "v1.0", uri, "--no-files")
    store = open_store(registry)
    promote(store, "v1.1", alias="candidate", reason="again", who="ann")
    store.close()
    again = export(registry, "v1.1", uri)
    assert (again["number"], again["run_id"], again["new"]) == ("1", first["run_id"], False)

    found = read(uri)
    assert found["runs"] == 2
    one, two = sorted(found["versions"], key=lambda version: int(version["number"]))
    assert one["tags"]["palate.version"] == "v1.1"
    assert one["tags"]["palate.aliases"] == "candidate, production"
    assert (one["tags"]["palate.from"], one["tags"]["palate.votes"], one["note"]) == ("v1.0", "2", "of March")
    assert one["metrics"] == {"accuracy.estimate": 0.75, "accuracy.low": 0.6, "accuracy.n": 40, "pairs": 40}
    assert one["params"]["stage"] == "dpo"
    assert one["params"]["run.objective"] == "sigmoid"
    assert {"model/adapter_model.safetensors", "model/lineage.json", "model/run.json"} <= set(one["files"])
    assert two["files"] == ["model/lineage.json"]
    assert Path(two["tags"]["palate.folder"]).joinpath("model.safetensors").is_file()
    assert [one["status"], two["status"]] == ["FINISHED"] * 2
    weights = next((target / "artifacts").rglob("adapter_model.safetensors"))
    assert weights.read_bytes() == (tmp_path / "run" / "adapter_model.safetensors").read_bytes()
    command = [PYTHON, "-m", "palate", "model", "export", "v1.0", "--store", registry, "--mlflow", "ftp://me:SECRET@x/"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "MLflow at ftp://x/" in refused.stderr
    assert "SECRET" not in refused.stderr + refused.stdout
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--merged"], "--mlflow logs a version as it is"),
        (["--mlflow-name", "a/b"], "no name for MLflow"),
        ([], "pip install 'palate[mlflow]'"),
    ],
)
def test_what_cannot_be_logged_is_refused(
    registry: str, tmp_path: Path, words: list[str], match: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    assert main(["model", "export", "v1.0", "--mlflow", str(tmp_path / "m"), "--store", registry, *words]) == 2
    assert match in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "m").exists()
