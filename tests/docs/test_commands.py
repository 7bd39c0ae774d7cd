"""Every `palate …` line of the manual is a command that exists, with options that it has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.exceptions import TyperException

from doc_pages import DOCS, PAGES, REPOSITORY, Block, blocks, commands, is_synopsis
from palate.cli.arguments import read_words
from palate.cli.main import app
from palate.config.load import load_config
from palate.config.pipeline import is_pipeline, load_pipeline
from palate.config.sweep import is_sweep, load_sweep

ALL = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *PAGES]
ROOT: Any = typer.main.get_command(app)
SHOWN = {"", "text", "sh", "bash", "console", "json", "jsonl", "yaml", "python", "py", "toml", "diff", "make"}
"""Languages of code blocks; what each means stands in CONTRIBUTING.md."""


def find_command(words: list[str]) -> tuple[Any, Any, list[str]]:
    """The command that a line calls, the context of its group, and its arguments. AssertionError if there is none."""
    command, rest, context = ROOT, list(words), None
    while hasattr(command, "commands"):
        context = command.make_context(command.name or "palate", [], parent=context, resilient_parsing=True)
        names = (rest[0] if rest else "").split("|")
        if len(names) > 1:  # `palate eval accuracy|bench`: the first stands for all, but all must exist
            assert set(names) <= set(command.commands), f"palate {' '.join(words)}: not all of {names} exist"
        if rest and names[0] in command.commands:
            command, rest = command.commands[names[0]], rest[1:]
        elif command.name == "judge":
            return command.commands["candidates"], context, rest
        else:
            assert not rest or rest[0].startswith("-") or is_synopsis(rest[:1]), (
                f"palate {' '.join(words)}: no {rest[0]}"
            )
            break
    return command, context, rest


def unknown_options(words: list[str]) -> list[str]:
    """Options of a line that its command does not have."""
    command, _, rest = find_command(words)
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    named = re.findall(r"(?<![\w=:/.-])(--[a-z][\w-]*|-[a-z])(?![\w-])", " ".join(rest))
    return [name for name in named if name not in {*options, "--help", "-h"}]


def complaint(words: list[str]) -> str:
    """Why a line would be refused, "" if it would not."""
    if unknown := unknown_options(words):
        return f"palate {' '.join(words)}: no option {', '.join(unknown)}"
    if is_synopsis(words):
        return ""
    try:
        command, context, rest = find_command(read_words(words)[0])
        if not hasattr(command, "commands"):
            command.make_context(command.name, list(rest), parent=context)
    except (TyperException, typer.Exit) as error:
        return "" if isinstance(error, typer.Exit) else f"palate {' '.join(words)}: {error.format_message()}"
    return ""


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    wrong = [f"{block.where}: {found}" for block in blocks(page) for words in commands(block.text)
             if (found := complaint(words))]  # fmt: skip
    assert wrong == []


def test_many_are_checked_and_wrong_ones_are_seen() -> None:
    assert sum(1 for page in ALL for block in blocks(page) for _ in commands(block.text)) > 150
    assert complaint(["train", "run.yaml", "--set", "a=1"]) == ""
    assert "no option --sett" in complaint(["train", "run.yaml", "--sett", "a=1"])
    assert "no option --colour" in complaint(["eval", "accuracy", "RUN", "[--colour C]"])
    assert complaint(["generate", "prompts.jsonl"]) != "", "--model is missing"
    assert complaint(["generate", "prompts.jsonl", "--model", "m", "--k", "two"]) != ""
    with pytest.raises(AssertionError, match="no promotee"):
        complaint(["model", "promotee", "v1.0"])


def test_code_spans_of_prose_name_commands_and_options_that_exist() -> None:
    wrong = []
    for page in ALL:
        if page.parent.name == "decisions":  # they also tell of what was not built
            continue
        text = re.sub(r"^( *)(`{3,}).*?^\1\2\s*?$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for span in re.findall(r"(?<!`)`(palate [^`]+)`(?!`)", text):
            try:
                unknown = unknown_options(" ".join(span.split()).split(" ")[1:])
                wrong += [f"{page.name}: {span}: {name}" for name in unknown]
            except AssertionError as error:
                wrong.append(f"{page.name}: {error}")
    assert wrong == []


def check_block(block: Block) -> None:
    """Raises an error if a block of data or code is not what its language says."""
    if block.language == "json" and not block.title.endswith("l"):
        json.loads(block.text)
    elif block.language in ("json", "jsonl"):
        for line in block.text.splitlines():
            json.loads(line)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language in ("python", "py"):
        compile(block.text, block.where, "exec")


FENCED = [block for page in ALL for block in blocks(page) if block.language]


@pytest.mark.parametrize("block", FENCED, ids=lambda block: block.where)
def test_fenced_blocks_are_what_they_say(block: Block) -> None:
    assert block.language in SHOWN, f"say what it is: {sorted(SHOWN)}"
    check_block(block)


RUNS = [block for block in FENCED if block.language == "yaml" and re.search(r"^stages?:|^rounds:", block.text, re.M)]


@pytest.mark.parametrize("block", RUNS, ids=lambda block: block.where)
def test_configs_of_the_manual_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    if is_sweep(path):
        load_sweep(path)
    elif is_pipeline(path):
        load_pipeline(path)
    else:
        load_config(path)


def test_every_page_is_on_the_site() -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    config = yaml.load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    named: list[str] = []

    def walk(entry: Any) -> None:
        if isinstance(entry, str):
            named.append(entry)
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                walk(inner)

    walk(config["nav"])
    pages = {str(page.relative_to(DOCS)) for page in PAGES}
    assert len(named) == len(set(named))
    assert set(named) == pages, f"missing in nav: {sorted(pages - set(named))}; gone: {sorted(set(named) - pages)}"
