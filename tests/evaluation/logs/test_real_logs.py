"""Logs that lm-evaluation-harness and Inspect wrote themselves, in an environment of their own.

`PALATE_EVAL_PYTHON` names an interpreter with `lm-eval` and `inspect-ai`; without it the tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.contingency_tables import mcnemar

from palate.cli.main import main
from tiny import save_tiny

PYTHON = os.environ.get("PALATE_EVAL_PYTHON", sys.executable)
ITEMS = 40

TASK = """\
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: %s}}
output_type: multiple_choice
test_split: test
doc_to_text: "Q: {{question}}\\nA:"
doc_to_choice: "{{choices}}"
doc_to_target: label
metric_list: [{metric: acc}, {metric: acc_norm}]
"""

INSPECT = """\
import sys
import tiktoken
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import generate

class Words:  # a mock model's tokens are counted by an encoding that would be downloaded
    def encode(self, text, **options):
        return text.split()

tiktoken.get_encoding = lambda name: Words()
folder, kind, wrong = sys.argv[1], sys.argv[2], {int(n) for n in sys.argv[3].split(",")}
samples = [Sample(id=n, input=f"{n} + 1?", target=str(n + 1)) for n in range(1, 41)]
outputs = [ModelOutput.from_content("mockllm/model", "no" if n in wrong else str(n + 1)) for n in range(1, 41)]
task = Task(dataset=samples, solver=[generate()], scorer=match(), name="add")
log, = eval(task, model=get_model("mockllm/model", custom_outputs=outputs), log_dir=folder, log_format=kind,
            display="none", max_connections=1, max_samples=1)
assert log.status == "success", log.error
"""


def needs(package: str) -> None:
    found = subprocess.run([PYTHON, "-c", f"import {package}"], capture_output=True, check=False)
    if found.returncode != 0:
        pytest.skip(f"{package} is not installed; name an interpreter that has it: PALATE_EVAL_PYTHON")


def run(*command: str | Path, folder: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)  # the other environment has its own packages
    done = subprocess.run([PYTHON, *map(str, command)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def capitals(folder: Path) -> Path:
    """The folder of a task."""
    rows = [{"question": f"Which is {n}?", "choices": [str(n), "other", f"{n}{n}"], "label": 0} for n in range(ITEMS)]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tasks").mkdir()
    (folder / "tasks" / "capitals.yaml").write_text(TASK % data)
    return folder / "tasks"


def compared(first: Path, second: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["eval", "compare", str(first), str(second), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_logs_of_the_harness(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs("lm_eval")
    tasks = capitals(tmp_path)
    logs, reported = [], []
    for seed in (0, 1):
        model = save_tiny(tmp_path / f"model{seed}", seed=seed)
        out = tmp_path / f"out{seed}"
        arguments = ["--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
        arguments += ["--tasks", "capitals", "--include_path", str(tasks), "--batch_size", "8"]
        run("-m", "lm_eval", *arguments, "--log_samples", "--output_path", out, folder=tmp_path)
        (samples,) = out.rglob("samples_capitals_*.jsonl")
        (results,) = out.rglob("results_*.json")
        logs.append(samples)
        reported.append(json.loads(results.read_text())["results"]["capitals"]["acc,none"])
    found = compared(*logs, capsys)
    assert (found["items"], found["only_first"], found["only_second"]) == (ITEMS, [], [])
    by_name = {one["metric"]: one["found"] for one in found["metrics"]}
    assert by_name.keys() == {"acc", "acc_norm"}
    assert (by_name["acc"]["first"], by_name["acc"]["second"]) == pytest.approx(tuple(reported))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_task_of_the_harness(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("lm_eval")
    monkeypatch.setenv("PALATE_EVAL_PYTHON", PYTHON)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    models = [str(save_tiny(tmp_path / f"model{seed}", seed=seed)) for seed in (0, 1)]
    tasks = capitals(tmp_path)
    call = ["eval", "bench", "--harness", "capitals", *models, "--data", str(tasks), "--precision", "fp32"]
    call += ["--output", str(tmp_path / "out"), "--json"]
    assert main(call) == 0
    first, progress = capsys.readouterr()
    result = json.loads(first)
    assert (result["items"], [model["name"] for model in result["models"]]) == (ITEMS, ["model0", "model1"])
    reported = [
        json.loads(path.read_text())["results"]["capitals"]["acc,none"]
        for name in ("model0", "model1")
        for path in (tmp_path / "out" / "harness-capitals").glob(f"{name}-*/**/results_*.json")
    ]
    rates = [model["rates"][0] for model in result["models"]]
    assert [(rate["metric"], rate["mean"]["n"]) for rate in rates] == [("acc", ITEMS)] * 2
    assert [rate["mean"]["estimate"] for rate in rates] == pytest.approx(reported)
    assert "1 of 2" in progress
    assert main(call) == 0
    second, progress = capsys.readouterr()
    assert (json.loads(second), "1 of 2" in progress) == (result, False)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kinds", [("eval", "json"), ("json", "eval")])
def test_logs_of_inspect(kinds: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs("inspect_ai")
    script = tmp_path / "task.py"
    script.write_text(INSPECT)
    logs = []
    for number, (kind, wrong) in enumerate(zip(kinds, ("1,2,3,4,5,6,7,8,9,10", "1,2,3,40"), strict=True)):
        folder = tmp_path / f"logs{number}"
        run(script, folder, kind, wrong, folder=tmp_path)
        (log,) = folder.glob(f"*.{kind}")
        logs.append(log)
    found = compared(*logs, capsys)
    (one,) = found["metrics"]
    result = one["found"]
    assert (one["metric"], result["n"], result["first"], result["second"]) == ("match", 40, 0.75, 0.9)
    # 7 items became right and 1 became wrong; the exact test, less half the probability of this outcome (mid-p).
    exact = mcnemar([[29, 1], [7, 3]], exact=True).pvalue
    assert result["p_value"] == pytest.approx(exact - 8 / 2**8)
