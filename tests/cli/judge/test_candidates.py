"""Candidates in, votes and pairs out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.data import load_records
from palate.records import PreferencePair
from runs import write_rows


@pytest.fixture
def candidates(tmp_path: Path) -> Path:
    rows = [
        {"id": "p:1", "prompt": "q", "completions": ["long answer", "short", "mid answer"]},
        {"id": "p:2", "prompt": "r", "completions": ["same", "same"]},
        {"id": "p:3", "prompt": "s", "completions": ["four", "five"]},
    ]
    return write_rows(tmp_path / "c.jsonl", rows)


def test_pairs_can_be_trained_on(candidates: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.jsonl"
    assert main(["judge", str(candidates), "--judge", "length:shorter", "--pairs", str(pairs), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    # Three pairs of answers of p:1 and one of p:3, twice each; the one of p:3 is a tie.
    assert (printed["count"], printed["ties"], printed["consistent"], printed["pairs_made"]) == (8, 2, 4, 3)
    assert len(read_jsonl(printed["votes"])) == 8
    loaded = load_records(str(pairs), kind=PreferencePair)
    assert [(pair.chosen[0].content, pair.rejected[0].content) for pair in loaded.records] == [
        ("short", "long answer"),
        ("mid answer", "long answer"),
        ("short", "mid answer"),
    ]
    assert {pair.weight for pair in loaded.records} == {1.0}


def test_a_second_call_asks_nothing_again(candidates: Path, tmp_path: Path) -> None:
    votes = tmp_path / "v.jsonl"
    arguments = ["judge", str(candidates), "--judge", "length", "--output", str(votes)]
    assert main(arguments) == 0
    first = votes.read_bytes()
    assert main(arguments) == 0
    assert votes.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--judge", "nobody"], "is not a rule, a function or a folder; write openai:nobody for a chat model"),
        (["--judge", "openai:m@127.0.0.1:8000/v1"], "the URL needs its scheme; write openai:MODEL@http://127.0.0.1:80"),
        (["--judge", "openai:m@localhost"], "write openai:MODEL@http://localhost"),
        (["--judge", "openai:m@api.example.com/v1"], "write openai:MODEL@http://api.example.com/v1"),
        (["--judge", "length", "--select", "some"], "'some' is not one of 'all', 'extremes'"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    candidates: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["judge", str(candidates), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_candidates_with_one_answer_have_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_rows(tmp_path / "c.jsonl", [{"prompt": "q", "completions": ["a"]}])
    assert main(["judge", str(path), "--judge", "length"]) == 2
    assert "--k 2" in capsys.readouterr().err
