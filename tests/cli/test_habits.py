"""Every command takes --quiet and --json in the same way: stdout is JSON only, stderr has notes and errors only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from palate import progress
from palate.cli.main import app, main
from runs import BASE, pairs, write_rows
from tiny import save_tiny, tiny_tokenizer

WITHOUT_JSON = {"chat", "web", "serve", "label serve"}
"""They talk with a person, or serve until Ctrl-C."""


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield path, command


COMMANDS = dict(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_them(name: str) -> None:
    options = {word: parameter for parameter in COMMANDS[name].params for word in parameter.opts}
    assert options["--quiet"] is options["-q"]
    assert ("--json" in options) == (name not in WITHOUT_JSON)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("habits")
    save_tiny(folder / "model", tokenizer=tiny_tokenizer(size=400))
    write_rows(folder / "pairs.jsonl", [*pairs(8), {"prompt": "broken"}])
    write_rows(folder / "prompts.jsonl", [{"prompt": f"{n} of it"} for n in range(3)])
    texts = [{"text": "a b"}, {"text": "c"}]
    write_rows(folder / "candidates.jsonl", [{"id": f"c{n}", "prompt": "p", "completions": texts} for n in range(2)])
    given = {**BASE, "model_name_or_path": "model", "dataset": "pairs.jsonl", "output_dir": "runs/a", "max_steps": 2}
    (folder / "run.yaml").write_text(json.dumps(given), encoding="utf-8")
    return folder


CHAIN = [
    "doctor",
    "config schema gate",
    "objectives ipo",
    "plan run.yaml",
    "data inspect pairs.jsonl",
    "data convert pairs.jsonl --to trl -o trl.jsonl",
    "data split pairs.jsonl -o split --part test=2",
    "data curate pairs.jsonl --preset clean -o curated",
    "data curate --list-rules",
    "train run.yaml",
    "report runs/a",
    "generate prompts.jsonl -m runs/a --k 2 --max-new-tokens 4 -o answers.jsonl",
    "judge candidates.jsonl --judge length:shorter --pairs judged.jsonl",
    "eval accuracy runs/a --dataset pairs.jsonl",
    "eval winrate runs/a model --prompts prompts.jsonl --judge length:shorter --max-new-tokens 4 -o won",
    "label create helpful",
    "label create helpful --update --votes-per-item 2",
    "label import --candidates candidates.jsonl --campaign helpful",
    "label assign helpful",
    "label users add anna",
    "label assign helpful --person anna --tasks 1",
    "label users passwd anna",
    "label users list",
    "label users disable anna",
    "label status",
    "keys create app",
    "keys list",
    "keys revoke app",
    "interactions list",
    "interactions inventory",
    "model add runs/a",
    "model verify v1.0",
    "model promote v1.0 --reason first",
    "model list",
    "model export runs/a --merged --dataset pairs.jsonl -o exported",
]


@pytest.mark.slow
def test_json_and_quiet_of_a_whole_life(
    world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this order, because each uses what the ones before have written."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("PALATE_PASSWORD", "long enough for a test")
    monkeypatch.delenv("PALATE_STORE", raising=False)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    for line in CHAIN:
        code = main([*line.split(), "--json", "--quiet"])
        out, err = capfd.readouterr()
        assert code == 0, f"{line}: {err}"
        try:
            assert isinstance(json.loads(out), dict | list), line
        except json.JSONDecodeError as error:
            raise AssertionError(f"{line}: stdout is not JSON: {out[:300]}") from error
        assert unexpected(err) == [], line


def unexpected(err: str) -> list[str]:
    """Lines on stderr that are neither notes nor errors."""
    return [line for line in err.splitlines() if line and not line.startswith(("palate: note: ", "palate: error: "))]


LONG = {
    "train run.yaml --set output_dir=runs/shown": "train 2/2",
    "generate prompts.jsonl -m model --max-new-tokens 4 -o shown.jsonl": "prompts answered: 3 of 3",
    "judge candidates.jsonl --judge length:longer": "questions judged: 4 of 4",
    "eval accuracy runs/shown --dataset pairs.jsonl": "scoring with",
}


@pytest.mark.slow
def test_long_commands_say_how_far_they_are_unless_quiet(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    for line, shown in LONG.items():
        assert main(line.split()) == 0
        assert shown in capsys.readouterr().err, line
    for votes in world.glob("*.votes.jsonl"):
        votes.unlink()
    (world / "shown.jsonl").unlink()
    shutil.rmtree(world / "runs" / "shown")
    for line in LONG:
        assert main([*line.split(), "-q"]) == 0
        assert unexpected(capsys.readouterr().err) == [], line


def test_quiet_of_one_command_is_not_that_of_the_next(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for more in ([], ["--quiet"], []):
        votes = world / f"{len(shown)}.votes.jsonl"
        words = ["judge", str(world / "candidates.jsonl"), "--judge", "length:shorter", "-o", str(votes), *more]
        assert main(["plan", str(world / "run.yaml"), *more]) == 0
        assert main(words) == 0
        capsys.readouterr()
        shown.append(progress.console.quiet)
    assert shown == [False, True, False]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell_is_shown(shell: str, tmp_path: Path) -> None:
    """What `--show-completion` prints for the shell that runs it, by the variable that the manual names."""
    done = subprocess.run(
        [sys.executable, "-m", "palate"],
        env={**os.environ, "_PALATE_COMPLETE": f"source_{shell}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert f"complete_{shell}" in done.stdout
    assert "palate" in done.stdout
    if shell == "bash":
        checked = subprocess.run(["bash", "-n"], input=done.stdout, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")
