"""Every command takes --quiet and --json in the same way: stdout is JSON only, stderr has notes and errors only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file

from judged_world import people
from judged_world import world as judged_world
from palate import progress
from palate.cli.main import app, main
from palate.records import as_turns
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
    save_tiny(folder / "model", tokenizer=tiny_tokenizer(size=400), max_position_embeddings=4096)
    model = folder / "model"
    shutil.copytree(model, folder / "bare", ignore=shutil.ignore_patterns("*token*", "chat_template*"))
    pickled = folder / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_bytes((model / "config.json").read_bytes())
    torch.save(load_file(model / "model.safetensors"), pickled / "pytorch_model.bin")
    write_rows(folder / "pairs.jsonl", [*pairs(8), {"prompt": "broken"}])
    write_rows(folder / "prompts.jsonl", [{"prompt": f"{n} of it"} for n in range(3)])
    texts = [{"text": "a b"}, {"text": "c"}]
    write_rows(folder / "candidates.jsonl", [{"id": f"c{n}", "prompt": "p", "completions": texts} for n in range(2)])
    write_rows(folder / "must.jsonl", [{"prompt": "of it", "must_not": "never"}])
    answered = judged_world(12)
    rows = [
        {"id": row.id, "prompt": as_turns(row.prompt), "completions": [asdict(answer) for answer in row.completions]}
        for row in answered
    ]
    write_rows(folder / "answered.jsonl", rows)
    write_rows(folder / "people.jsonl", [vote.to_json() for vote in people(answered)])
    targets = {f"mc{n}_targets": {"it is": 1, "it was not": 0} for n in range(3)}
    (folder / "questions.json").write_text(json.dumps([{"question": "is it?", **targets}]), encoding="utf-8")
    given = {**BASE, "model_name_or_path": "model", "dataset": "pairs.jsonl", "output_dir": "runs/a", "max_steps": 2}
    (folder / "run.yaml").write_text(json.dumps(given), encoding="utf-8")
    return folder


LONG = {
    "plan run.yaml": "reading pairs.jsonl",
    "data inspect pairs.jsonl --workers 1": "reading pairs.jsonl",
    "data convert pairs.jsonl --to trl -o trl.jsonl": "reading pairs.jsonl",
    "data split pairs.jsonl -o split --part test=2": "reading pairs.jsonl",
    "data curate pairs.jsonl --preset clean -o curated --workers 1": "reading pairs.jsonl",
    "data mix pairs.jsonl -o mixed": "reading pairs.jsonl",
    "data augment pairs.jsonl --add dropped_end=2 -o augmented": "reading pairs.jsonl",
    "data margins pairs.jsonl -m model -o margins.jsonl": "blocks of 256 pairs",
    "init pairs.jsonl --model model -o first.yaml --workers 1": "reading pairs.jsonl",
    "train run.yaml": "train 2/2",
    "compare runs/a --prompts prompts.jsonl --max-new-tokens 4": "answering 3 prompts with a",
    "generate prompts.jsonl -m runs/a --k 2 --max-new-tokens 4 -o answers.jsonl": "prompts answered: 3 of 3",
    "judge candidates.jsonl --judge length:shorter --pairs judged.jsonl": "questions judged: 4 of 4",
    "judge rescore candidates.votes.jsonl --judge length:longer": "questions judged: 4 of 4",
    "judge calibrate answered.jsonl --votes people.jsonl --judge length:shorter": "questions judged",
    "eval accuracy runs/a --dataset pairs.jsonl": "scoring with",
    "eval winrate runs/a model --prompts prompts.jsonl --judge length:shorter --max-new-tokens 4 -o won": (
        "prompts answered: 3 of 3"
    ),
    "eval bench truthfulqa runs/a --data questions.json --precision fp32": "TruthfulQA with",
    "eval must-pass runs/a --prompts must.jsonl -o must.json --max-new-tokens 4": "answers: 1 of 1",
    "eval frontier runs/a --prompts prompts.jsonl --reward length:shorter --max-new-tokens 4 --k 1": "scoring answers",
    "label import --candidates candidates.jsonl --campaign helpful": "candidates: 2 done",
    "model add runs/a": "hashing a, MB",
    "model verify v1.0": "checking v1.0",
    "model promote v1.0 --reason first": "checking v1.0",
    "model export runs/a --merged --dataset pairs.jsonl -o exported": "writing a in fp32",
    "model convert pickled -o converted": "weight files converted: 1 of 1",
}
"""Commands that take more than 5 seconds on large input, with what they print about it."""

OTHERS = {
    "demo": "trains, as train",
    "doctor": "looks at this machine, for seconds",
    **dict.fromkeys(("eval rank", "eval compare"), "compute on votes and results in memory"),
    **dict.fromkeys(("report", "objectives", "config schema", "data join"), "read and write small files"),
    **dict.fromkeys(("label create", "label assign", "label status"), "read and write rows of one campaign"),
    **dict.fromkeys(("label export", "data from-interactions"), "read the database once"),
    **{f"label users {name}": "one row" for name in ("add", "passwd", "list", "disable", "erase")},
    **{f"keys {name}": "one row" for name in ("create", "list", "revoke")},
    **{
        f"interactions {name}": "rows of the database, by index"
        for name in ("list", "show", "delete", "forget", "purge", "inventory")
    },
    **{f"model {name}": "rows of the registry" for name in ("list", "show", "rollback", "canary", "gc")},
    "model probe": "scores five texts",
    **{f"loop {name}": "its steps are commands with progress of their own" for name in ("tick", "run")},
    **{
        f"loop {name}": "small files and rows"
        for name in ("init", "status", "abandon", "gate", "canary", "sign", "force", "reject", "mix", "debug")
    },
}
"""All other commands, with the reason why they print nothing about how far they are."""

CHAIN = [
    "doctor",
    "config schema gate",
    "objectives ipo",
    "data curate --list-rules",
    *[line for line in LONG if not line.startswith(("label", "model"))],
    "report runs/a",
    "label create helpful",
    "label create helpful --update --votes-per-item 2",
    *[line for line in LONG if line.startswith("label")],
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
    *[line for line in LONG if line.startswith("model")],
    "model list",
]


def test_every_command_is_in_the_matrix() -> None:
    named = [line.replace("judge candidates.jsonl", "judge candidates candidates.jsonl") for line in LONG]
    long = {name for name in COMMANDS for line in named if f"{line} ".startswith(f"{name} ")}
    assert sorted([*long, *OTHERS, *WITHOUT_JSON]) == sorted(COMMANDS)
    assert len(long) == len(LONG)


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [True, False], ids=["quiet", "shown"])
def test_json_quiet_and_progress_of_a_whole_life(
    quiet: bool, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this order, because each uses what the ones before have written."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALATE_PASSWORD", "long enough for a test")
    monkeypatch.delenv("PALATE_STORE", raising=False)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    for line in CHAIN if quiet else [line for line in CHAIN if line in LONG or line == "label create helpful"]:
        code = main([*line.split(), "--json", *(["--quiet"] if quiet else [])])
        out, err = capfd.readouterr()
        assert code == 0, f"{line}: {err}"
        try:
            assert isinstance(json.loads(out), dict | list), line
        except json.JSONDecodeError as error:
            raise AssertionError(f"{line}: stdout is not JSON: {out[:300]}") from error
        if quiet:
            assert unexpected(err) == [], line
        else:
            assert LONG.get(line, "") in err, f"{line}: {err}"
            assert not set("\r\x1b") & set(err), f"{line}: a terminal's control characters in a pipe"


WINRATE = "--prompts prompts.jsonl --max-new-tokens 4 -o won"
BROKEN = {
    "eval accuracy model --reference bare --dataset pairs.jsonl": (1, "bare: no tokenizer is in this folder"),
    "eval accuracy model --reference model --dataset pairs.jsonl": (2, "model is compared with itself"),
    f"eval winrate model bare --judge length:shorter {WINRATE}": (1, "bare: no tokenizer is in this folder"),
    f"eval winrate model candidates.jsonl --judge length:shorter {WINRATE}": (1, "has no answer to any prompt"),
    f"eval winrate model openai:m@http://127.0.0.1:9/v1 --judge length:shorter {WINRATE}": (1, "cannot be reached"),
    f"eval winrate model converted --judge openai:m@http://127.0.0.1:9/v1 {WINRATE}": (2, "converted: no such model"),
    f"eval winrate model bare/../model2 --judge length:shorter {WINRATE}": (2, "no such model folder"),
    f"eval winrate model pickled/../model --judge people --votes absent {WINRATE}": (2, "no such file of votes"),
    f"eval winrate model pickled/../model --judge openai:m@http://127.0.0.1:9/v1 {WINRATE}": (1, "cannot be reached"),
    f"eval winrate model pickled/../model --judge length:shorter {WINRATE} -o run.yaml/x": (1, "cannot be written"),
    "eval bench truthfulqa model bare --data questions.json": (1, "bare: no tokenizer is in this folder"),
    "eval bench truthfulqa model --data absent.json": (2, "absent.json: no such file"),
    "eval must-pass model --prompts must.jsonl -o run.yaml/x": (1, "cannot be written"),
    "generate prompts.jsonl -m model -o run.yaml/x": (1, "cannot be written"),
    "generate prompts.jsonl -m absent/x/y": (2, "no such model folder"),
    "model export model --merged --no-check -o run.yaml/x": (1, "cannot be written"),
    "model export model --gguf absent --no-check -o x.gguf": (1, "no llama.cpp checkout"),
    "data inspect pairs.jsonl -o run.yaml/x.html": (1, "cannot be written"),
    "data curate pairs.jsonl --preset clean -o run.yaml/x": (1, "cannot be written"),
    "report absent": (2, "no such run directory"),
    "model add absent": (2, "absent: no such folder"),
    "model convert absent -o x": (2, "absent: no such folder"),
    "eval compare absent bare": (2, "absent: no such file"),
    "eval compare questions.json questions.json": (2, "is compared with itself"),
    "init absent.jsonl --model model -o x.yaml": (2, "dataset 'absent.jsonl' is not there"),
    "interactions list --store sqlite:///absent.db": (2, "there is no such database"),
}
"""Commands of which the last input is wrong: exit code and message. No weights are loaded before it is noticed."""


@pytest.mark.parametrize("line", BROKEN)
def test_what_is_cheap_is_checked_first(
    line: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError(f"{line}: weights were loaded")

    monkeypatch.chdir(world)
    monkeypatch.delenv("PALATE_STORE", raising=False)
    for place in ("palate.evaluation.subject.load_frozen", "palate.models.export.merged.load_model"):
        monkeypatch.setattr(place, load)
    code, words = BROKEN[line]
    assert main(line.split()) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("palate: error:") == 1


def unexpected(err: str) -> list[str]:
    """Lines on stderr that are neither notes nor errors."""
    return [line for line in err.splitlines() if line and not line.startswith(("palate: note: ", "palate: error: "))]


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
