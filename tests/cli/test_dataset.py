"""Every verb that reads a dataset has the same options, and gets them as one request."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from palate.cli.dataset import PROMPT_OPTIONS, Datasets, reads_dataset
from palate.cli.main import app, main
from palate.records import DatasetRequest

WHERE = {f"--{name.replace('_', '-')}" for name in PROMPT_OPTIONS}
HOW = {"--prefer", "--ratings", "--min-margin", "--seed"}


def commands(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the program with its path."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *path, name)


COMMANDS = dict(commands(typer.main.get_command(app)))


def options(*path: str) -> set[str]:
    return {name for parameter in COMMANDS[path].params for name in parameter.opts}


@pytest.mark.parametrize(
    "path",
    [
        *(("data", name) for name in ("inspect", "convert", "curate", "split", "mix", "augment", "margins")),
        ("eval", "accuracy"),
    ],
    ids=" ".join,
)
def test_verbs_that_read_answers_have_all_options(path: tuple[str, ...]) -> None:
    assert options(*path) >= WHERE | HOW


@pytest.mark.parametrize("path", [("generate",), ("compare",), ("eval", "frontier")], ids=" ".join)
def test_verbs_that_read_prompts_have_those_that_matter_for_prompts(path: tuple[str, ...]) -> None:
    assert options(*path) >= WHERE
    assert not options(*path) & (HOW - {"--seed"})  # generate and frontier have a seed of their own, for sampling


@pytest.mark.parametrize("path", [path for path in COMMANDS if path], ids=" ".join)
def test_every_help_page_has_an_example_with_options_that_exist(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    _, _, example = command.help.partition("\n\nExample: palate ")
    assert len(f" Example: palate {example}") <= 80
    words = shlex.split(example)
    typed = path[:-1] if command.hidden else path  # a group's default command, whose name nobody types
    assert tuple(words[: len(typed)]) == typed
    named = path if command.hidden else max((at for at in COMMANDS if tuple(words[: len(at)]) == at), key=len)
    default = (*named, "candidates")
    assert {word for word in words if word.startswith("--")} <= options(*(default if default in COMMANDS else named))


def received(*words: str) -> tuple[DatasetRequest, int]:
    """What a verb gets for a command line."""
    small, got = typer.Typer(), []

    @small.command()
    @reads_dataset(Datasets)
    def verb(
        request: DatasetRequest,
        min_margin: Annotated[float, typer.Option("--min-margin")] = 5.0,
        rows: Annotated[int, typer.Option("--rows")] = 1,
    ) -> None:
        """A verb with an option of its own that the request has too."""
        got.append((request, rows + int(min_margin)))

    done = CliRunner().invoke(small, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return got[0]


def test_a_request_is_made_of_the_options() -> None:
    words = ["a.jsonl", "b.jsonl", "--column", "prompt=ask", "--label", "0=response_1", "--label", "A=B=tie"]
    words += ["--split", "test", "--subset", "small", "--max-samples", "9", "--dataset-dir", "sets"]
    request, _ = received(*words, "--prefer", "safer", "--ratings", "all_pairs", "--seed", "3")
    assert request == DatasetRequest(
        ["a.jsonl", "b.jsonl"],
        dataset_dir="sets",
        columns={"prompt": "ask"},
        split="test",
        subset="small",
        max_samples=9,
        labels={"0": "response_1", "A=B": "tie"},
        prefer="safer",
        ratings="all_pairs",
        seed=3,
    )


def test_an_option_that_a_verb_declares_itself_is_its_own() -> None:
    request, own = received("a.jsonl", "--min-margin", "7", "--rows", "2")
    assert (request.min_margin, own) == (0.0, 9)


@pytest.mark.parametrize("words", [["--prefer", "nicer"], ["--ratings", "best"], ["--max-samples", "0"]])
def test_a_wrong_choice_is_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", "palate-demo", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"palate: error: Invalid value for '{words[0]}'")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "winrate", "a.jsonl", "b.jsonl", "--judge", "length:longer"],
        ["eval", "accuracy", "runs/dpo"],
        ["compare", "runs/dpo", "runs/kto"],
        ["data", "curate"],
    ],
)
def test_options_of_a_dataset_need_one(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--column", "prompt=ask", "--split", "test"]) == 2
    assert "--column, --split: no dataset is named" in " ".join(capsys.readouterr().err.split())
