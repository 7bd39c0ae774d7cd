"""Plug-ins of other packages: the example package works from its entry points; faults are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from palate import plugins
from palate.config.objectives import table
from palate.data.scores import rule_score
from palate.errors import ConfigError, FunctionError
from palate.feedback.judges.load import load_judge
from tiny import save_tiny

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "plugin"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """The entry points that are installed; none at first."""
    points: list[EntryPoint] = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: [one for one in points if one.group == group])
    plugins.plugin_points.cache_clear()
    plugins.load_plugin.cache_clear()
    yield points
    plugins.plugin_points.cache_clear()
    plugins.load_plugin.cache_clear()


def test_a_package_that_cannot_be_imported_is_one_line(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("kind", "no_such_package.reward:kind", "palate.rewards"))
    assert rule_score("another", "rewards") is None
    with pytest.raises(
        ConfigError, match=r"rewards kind of .* cannot be loaded: ModuleNotFoundError: No module"
    ) as error:
        rule_score("kind", "rewards")
    assert "\n" not in str(error.value)


def test_two_packages_with_one_name(installed: list[EntryPoint]) -> None:
    installed += [EntryPoint("same", f"json:{name}", "palate.judges") for name in ("loads", "dumps")]
    with pytest.raises(ConfigError, match="both add judges same"):
        load_judge("same")


def test_an_error_in_a_plugin_names_its_line(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("broken", "json:loads", "palate.rewards"))
    score = rule_score("broken", "rewards")
    assert score is not None
    with pytest.raises(FunctionError, match="rewards: broken failed in"):
        score([], [])


def test_an_objective_does_not_replace_one_of_palate(installed: list[EntryPoint]) -> None:
    value = "palate.config.objectives.paired:PAIRED_ROWS"
    installed.append(EntryPoint("rows", value, "palate.objectives"))
    with pytest.raises(ConfigError, match="it needs a name of its own"):
        table._plugins()
    installed[:] = [EntryPoint("sigmoid", "test_plugins_rows:SIGMOID", "palate.objectives")]
    plugins.plugin_points.cache_clear()
    sys.modules["test_plugins_rows"] = type(sys)("test_plugins_rows")
    sys.modules["test_plugins_rows"].SIGMOID = table.OBJECTIVES["sigmoid"]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="it needs a name of its own"):
        table._plugins()


STEPS = """
import json, sys
from palate.cli.main import main
def run(*words):
    assert main(list(words)) == 0, words
run("objectives", "squared_hinge")
run("data", "inspect", "rows.jsonl", "--json", "--workers", "1")
run("train", "run.yaml")
run("judge", "candidates.jsonl", "--judge", "alphabet", "--output", "alphabet.jsonl")
run("judge", "candidates.jsonl", "--judge", "questions", "--output", "questions.jsonl")
run("eval", "bench", "capitals", sys.argv[1], "--data", "capitals.jsonl", "--output", "bench")
"""


@pytest.mark.slow
def test_the_example_package_works(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / "installed" / "palate_example-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: palate-example\nVersion: 0.1.0\n", encoding="utf-8")
    lines = [line for group, points in project["entry-points"].items()
             for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert {group.removeprefix("palate.") for group in project["entry-points"]} == set(plugins.GROUPS)

    rows = [{"ask": f"{n}+{n}?", "good": str(2 * n), "bad": "Why?"} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "run.yaml").write_text(
        f"stage: dpo\nmodel_name_or_path: {model}\ndataset: rows.jsonl\noutput_dir: run\npref_loss: squared_hinge\n"
        "per_device_train_batch_size: 8\nsample_prompts: 0\nsave_strategy: 'no'\n",
        encoding="utf-8",
    )
    candidates = {"id": "q:1", "prompt": "Name a letter.", "completions": ["Why? Why?", "An a."]}
    (tmp_path / "candidates.jsonl").write_text(json.dumps(candidates) + "\n", encoding="utf-8")
    capitals = {"country": "France", "right": "Paris", "wrong": "Lyon"}
    (tmp_path / "capitals.jsonl").write_text(json.dumps(capitals) + "\n", encoding="utf-8")
    path = os.pathsep.join([str(EXAMPLE), str(info.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(model)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "max(0, 1 − βΔ)²" in done.stdout
    assert '"format": "verdict_lines"' in done.stdout
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["loss"] == pytest.approx(1.0), "the hinge, squared, at equal log-ratios"
    outcomes = {
        name: {json.loads(line)["outcome"] for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()}
        for name in ("alphabet", "questions")
    }
    assert outcomes == {"alphabet": {"right"}, "questions": {"left"}}
    result = json.loads(next((tmp_path / "bench").rglob("*.json")).read_text(encoding="utf-8"))
    assert result["benchmark"] == "capitals"
