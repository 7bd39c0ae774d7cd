"""The before/after table: joined by prompt, shown as it is on a terminal, safe in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from palate.errors import ArtifactError
from palate.evaluation.answers.table import (
    SideBySide,
    blocks,
    columns,
    prompt_answers,
    prompt_text,
    read_answers,
    rich_table,
    side_by_side,
    write_csv,
)
from palate.records import Message

USER = Message("user", "Why is the sky blue?")


def sample(step: int, question: str, policy: str, reference: str | None = "before") -> dict[str, object]:
    prompt = [{"role": "user", "content": question}]
    return {"step": step, "prompt": prompt, "policy": policy, "reference": reference}


def test_the_latest_answer_counts_and_the_earlier_ones_are_kept() -> None:
    rows = [sample(0, "a", "a0"), sample(0, "b", "b0"), sample(40, "a", "a40"), sample(20, "a", "a20", None)]
    first, second = prompt_answers(rows)
    assert (first.policy, first.step, first.reference) == ("a40", 40, "before")
    assert first.earlier == ((0, "a0"), (20, "a20"))
    assert (second.policy, second.earlier) == ("b0", ())


def test_runs_join_by_prompt() -> None:
    full = prompt_answers([sample(1, "a", "full a"), sample(1, "b", "full b", None)])
    lora = prompt_answers([sample(1, "b", "lora b", "reference b"), sample(1, "c", "lora c")])
    rows = side_by_side({"full": full, "lora": lora})
    assert [prompt_text(row.prompt) for row in rows] == ["a", "b", "c"]
    assert [dict(row.outputs) for row in rows] == [
        {"full": "full a", "lora": None},
        {"full": "full b", "lora": "lora b"},
        {"full": None, "lora": "lora c"},
    ]
    assert [row.reference for row in rows] == ["before", "reference b", "before"]


def test_the_columns_are_the_known_ones() -> None:
    one = [SideBySide((USER,), {"run": "x"}, "y")]
    assert columns(one) == ["index", "Prompt", "DPO Model Output", "Reference Model Output"]
    assert columns(one, stage="sft")[2] == "SFT Model Output"
    two = [SideBySide((USER,), {"full": "x", "lora": "z"}, "y")]
    assert columns(two) == ["index", "Prompt", "full", "lora", "Reference Model Output"]
    assert columns([]) == columns(one)


def shown(rows: list[SideBySide], width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(rich_table(rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_the_whole_text() -> None:
    words = [f"word{n}" for n in range(60)]
    text = shown([SideBySide((USER,), {"run": " ".join(words)}, "short")])
    assert all(word in text for word in words)
    assert "DPO Model Output" in text
    assert "Why is the sky blue?" in text


def test_markup_and_escape_codes_are_text() -> None:
    text = shown([SideBySide((USER,), {"run": "[bold red]x[/] \x1b[2J\x07 [/nothing]"}, None)])
    assert "[bold red]x[/]" in text
    assert "[/nothing]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_several_turns_name_their_roles() -> None:
    prompt = (Message("system", "Be brief."), USER)
    assert prompt_text(prompt) == "system: Be brief.\nuser: Why is the sky blue?"


def test_csv_comes_back_and_runs_no_formula(tmp_path: Path) -> None:
    rows = [
        SideBySide((USER,), {"run": '=HYPERLINK("x")'}, 'two\nlines, "quoted"'),
        SideBySide((USER,), {"run": None}, None),
    ]
    with write_csv(rows, tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.reader(file))
    assert read == [
        ["index", "Prompt", "DPO Model Output", "Reference Model Output"],
        ["0", "Why is the sky blue?", '\'=HYPERLINK("x")', 'two\nlines, "quoted"'],
        ["1", "Why is the sky blue?", "", ""],
    ]


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("- one\n- two", "- one\n- two"),
        ("-5", "-5"),
        ("-0.5 ", "-0.5 "),
        ("- 2+cmd|' /C calc'!A0", "'- 2+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("+1", "'+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
    ],
)
def test_csv_keeps_bullets_and_negative_numbers(tmp_path: Path, answer: str, written: str) -> None:
    with write_csv([SideBySide((USER,), {"run": answer}, None)], tmp_path / "t.csv").open(newline="") as file:
        assert list(csv.reader(file))[1][2] == written


def test_a_run_without_samples_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ArtifactError, match="sample_prompts"):
        read_answers(tmp_path)
    (tmp_path / "samples.jsonl").write_text(json.dumps(sample(1, "a", "now")) + "\n")
    assert read_answers(tmp_path)[0].policy == "now"


def test_blocks_tell_no_answer_from_an_empty_one() -> None:
    rows = [SideBySide((USER,), {"full": None, "lora": ""}, "y\x1b[2J")]
    assert blocks(rows) == [
        [
            ("Prompt", "Why is the sky blue?"),
            ("full", "(none)"),
            ("lora", "(empty)"),
            ("Reference Model Output", "y[2J"),
        ]
    ]
