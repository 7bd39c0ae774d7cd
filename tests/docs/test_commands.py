"""Every `palate …` line of the manual is a command that exists, with options that it has."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.exceptions import TyperException

from doc_pages import DOCS, PAGES, REPOSITORY, Block, blocks, commands, is_synopsis
from palate.cli.arguments import read_words
from palate.cli.label import campaign
from palate.cli.main import app
from palate.config.load import load_config
from palate.config.pipeline import is_pipeline, load_pipeline
from palate.config.sweep import is_sweep, load_sweep
from palate.data import SourceReader, open_source
from palate.data.augment import read_plan
from palate.data.curate import read_rules
from palate.errors import PalateError
from palate.feedback.campaigns.schema import CampaignSchema
from palate.loop.gate.config import load_gate_config
from palate.serving.settings import read_settings

ALL = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "configs/README.md")] + PAGES
ROOT: Any = typer.main.get_command(app)
SHOWN = {"sh", "python", "py", "text", "json", "jsonl", "yaml", "csv", "toml"}
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


def json_values(text: str) -> list[Any]:
    """The values of a block of JSON, one after the other."""
    found, rest = [], text.strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def check_block(block: Block) -> None:
    """Raises an error if a block of data or code is not what its language says."""
    if block.language == "json":
        json_values(block.text)
    elif block.language == "jsonl":
        for line in block.text.splitlines():
            json.loads(line)
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language in ("python", "py"):
        compile(block.text, block.where, "exec")


FENCED = [block for page in ALL for block in blocks(page)]


@pytest.mark.parametrize("block", FENCED, ids=lambda block: block.where)
def test_fenced_blocks_are_what_they_say(block: Block) -> None:
    assert block.language in SHOWN, f"say what it is: {sorted(SHOWN)}"
    check_block(block)


NEEDED = {"stage": "dpo", "model_name_or_path": "m", "dataset": "d", "output_dir": "o"}
ENGINE = {"stage": "grpo", "finetuning_type": "lora", "rewards": "length:shorter"}


def load_as_what_it_is(path: Path) -> None:
    """Read a YAML file with the loader of its kind; what a fragment of a training config lacks is added."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "models" in values:
        read_settings(path, {})
    elif "judge_card" in values or "guards" in values:
        load_gate_config(path)
    elif "preset" in values or "rules" in values:
        read_rules(path)
    elif "kinds" in values:
        read_plan(path)
    elif "votes_per_item" in values:
        CampaignSchema(**campaign._read_schema(path))
    else:
        if not {"stages", "rounds"} & set(values):  # a fragment of a training config
            engine = ENGINE if "rollout_url" in values else {}
            path.write_text(json.dumps({**NEEDED, **engine, **values}), encoding="utf-8")
        (load_sweep if is_sweep(path) else load_pipeline if is_pipeline(path) else load_config)(path)


CONFIGS = [block for block in FENCED if block.language == "yaml"]


@pytest.mark.parametrize("block", CONFIGS, ids=lambda block: block.where)
def test_configs_of_the_manual_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    load_as_what_it_is(path)


def test_a_wrong_config_is_seen(tmp_path: Path) -> None:
    for text in ("pref_bet: 0.1", "models: {a: {modell: m}}", "rules: [{min_lenght: {}}]"):
        path = tmp_path / "wrong.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(PalateError):
            load_as_what_it_is(path)


ROWS = [
    block
    for block in FENCED
    if block.language in ("json", "jsonl")
    and re.search(r'"(chosen|messages)":', block.text)
    and block.page.stem != "benchmarks"
    and not block.title.endswith("dataset_info.json")
]
"""Rows of datasets; those of published benchmarks are read where their commands run."""


@pytest.mark.parametrize("block", ROWS, ids=lambda block: block.where)
def test_rows_of_the_manual_are_read(block: Block, tmp_path: Path) -> None:
    values = json_values(block.text)
    rows = values[0] if isinstance(values[0], list) else values
    for row in rows:
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        reader: SourceReader[Any] = SourceReader(open_source(str(path)), None)
        assert len(list(reader)) == 1, f"{block.where}: {row}"


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
