"""The examples of schedulers and the recommended recipe are what their programs read."""

from __future__ import annotations

import ast
import configparser
from datetime import UTC, datetime
from pathlib import Path

import yaml

from palate.config.pipeline import load_pipeline
from palate.loop.train_config import assignments, check_train_config, overrides
from palate.registry.versions import Version

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "loop"
TICK = "palate loop tick /var/lib/palate/loop.yaml"


def test_cron() -> None:
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if line and line[0] != "#"]
    times = [line.split(maxsplit=5) for line in lines if "=" not in line.split()[0]]
    assert [(len(fields), fields[0].isdigit(), fields[5]) for fields in times] == [(6, True, f"{TICK} > /dev/null")]


def test_systemd() -> None:
    units = {}
    for kind in ("service", "timer"):
        units[kind] = configparser.ConfigParser(interpolation=None)
        units[kind].optionxform = str  # type: ignore[assignment,method-assign]
        units[kind].read(EXAMPLES / f"palate-loop.{kind}")
    service = units["service"]["Service"]
    assert service["ExecStart"] == f"/usr/local/bin/{TICK}"
    assert (service["Type"], service["TimeoutStartSec"], service["KillMode"]) == ("oneshot", "infinity", "mixed")
    assert units["timer"]["Timer"]["OnCalendar"] == "hourly"


def test_airflow() -> None:
    tree = ast.parse((EXAMPLES / "airflow_dag.py").read_text())
    calls = {
        node.func.id: node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    words = {word.arg: word.value for word in calls["BashOperator"].keywords}
    assert ast.literal_eval(words["bash_command"]) == TICK
    options = {word.arg: ast.unparse(word.value) for word in calls["DAG"].keywords}
    assert (options["catchup"], options["max_active_runs"]) == ("False", "1")


def test_kubernetes() -> None:
    spec = yaml.safe_load((EXAMPLES / "cronjob.yaml").read_text())["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    [container] = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["palate", "loop", "tick", "/data/loop.yaml"]
    assert [entry["name"] for entry in container["env"]] == ["PALATE_STORE", "OPENAI_API_KEY"]


def test_semi_online_rounds() -> None:
    version = Version("v1.0", "a", "model", Path("models/v1"), {}, None, {}, "", "ann", datetime.now(UTC), ())
    values = overrides(version, [Path("pairs.jsonl")], Path("out"))
    check_train_config(EXAMPLES / "semi_online.yaml", values)
    runs = load_pipeline(EXAMPLES / "semi_online.yaml", assignments(values)).runs
    assert [run.config.model_name_or_path for run in runs] == ["models/v1", "out/round-1", "out/round-2", "out/round-3"]
    assert [run.sampling is not None for run in runs] == [False, True, True, True]
    assert runs[0].config.dataset == ["pairs.jsonl"]
    assert {run.config.ref_model for run in runs[1:]} == {"models/v1"}
    sampling = runs[1].sampling
    assert sampling is not None
    steps = sampling.prompts_per_round / (8 * 4)  # type: ignore[operator]
    assert 5 <= steps <= 100
