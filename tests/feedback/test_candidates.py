"""Candidates on disk: resumed after a kill, independent of neighbours, refused when made otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import JsonlWriter, read_jsonl
from palate.errors import ArtifactError, DataError
from palate.feedback.candidates import AnswerOrigin, iter_candidates, read_candidates, write_candidates
from palate.models.generation.decoding import Decoding
from palate.records import Answer, Message, Messages, Record, ToolCall, as_turns

PROMPTS = [Record(id=f"p.jsonl:{n}", prompt=(Message("user", f"prompt {n}"),)) for n in range(1, 41)]
HOW = Decoding(max_new_tokens=4, temperature=1.0, seed=3)


class Echo:
    """Answers with the prompt and the seed; may be killed at the n-th call."""

    name, identity = "echo", "hash"

    def __init__(self, dies_at: int = -1) -> None:
        self.calls = 0
        self._dies_at = dies_at

    def answers(
        self,
        prompts: Sequence[Messages],
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        tools: Sequence[str | None] | None = None,
    ) -> list[Answer]:
        if self.calls == self._dies_at:
            raise KeyboardInterrupt
        self.calls += 1
        return [Answer(f"{prompt[-1].content} {seed}", "stop", 2) for prompt, seed in zip(prompts, seeds)]


def test_a_killed_file_is_finished_and_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    assert write_candidates(PROMPTS, Echo(), 4, HOW, path=whole) == 40
    with pytest.raises(KeyboardInterrupt):
        write_candidates(PROMPTS, Echo(dies_at=1), 4, HOW, path=broken)
    kept = len(read_jsonl(broken))
    assert 0 < kept < 40
    with broken.open("a") as file:
        file.write('{"id": "torn')
    assert write_candidates(PROMPTS, Echo(), 4, HOW, path=broken) == 40 - kept
    assert broken.read_bytes() == whole.read_bytes()


def test_what_is_sampled_depends_on_prompt_seed_and_number_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_candidates(PROMPTS, Echo(), 4, HOW, path=first)
    write_candidates([replace(PROMPTS[7], id="other.jsonl:9")], Echo(), 2, HOW, path=second)
    four, two = (row["completions"] for row in (read_jsonl(first)[7], read_jsonl(second)[0]))
    assert four[:2] == two
    assert len({one["text"] for one in four}) == 4


def test_a_row_says_all_there_is_to_know(tmp_path: Path) -> None:
    write_candidates(PROMPTS[:1], Echo(), 1, HOW, path=tmp_path / "c.jsonl")
    (row,) = read_jsonl(tmp_path / "c.jsonl")
    text = row["completions"][0]["text"]
    assert row == {
        "id": "p.jsonl:1",
        "prompt": [{"role": "user", "content": "prompt 1"}],
        "completions": [{"text": text, "finish_reason": "stop", "tokens": 2}],
        "model": "echo",
        "identity": "hash",
        "seed": 3,
        "decoding": {"max_new_tokens": 4, "temperature": 1.0, "top_p": 1.0},
    }
    (read,) = read_candidates(tmp_path / "c.jsonl")
    assert read.prompt == PROMPTS[0].prompt
    assert read.completions == (Answer(text, "stop", 2),)


@pytest.mark.parametrize("how", [Decoding(4, 0.5, seed=3), Decoding(4, 1.0, seed=4), Decoding(5, 1.0, seed=3)])
def test_other_settings_are_not_mixed_into_a_file(tmp_path: Path, how: Decoding) -> None:
    path = tmp_path / "c.jsonl"
    write_candidates(PROMPTS[:2], Echo(), 2, HOW, path=path)
    with pytest.raises(ArtifactError, match="name another --output"):
        write_candidates(PROMPTS, Echo(), 2, how, path=path)
    with pytest.raises(ArtifactError, match="made with k 2, not 3"):
        write_candidates(PROMPTS, Echo(), 3, HOW, path=path)
    with pytest.raises(ArtifactError, match="another prompt"):
        write_candidates([replace(PROMPTS[5], id="p.jsonl:1")], Echo(), 2, HOW, path=path)


def test_plain_texts_are_candidates_too_and_bad_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"prompt": "q", "completions": ["a", "b"]}) + "\n")
    (row,) = read_candidates(path)
    assert (row.id, [one.text for one in row.completions]) == ("c.jsonl:1", ["a", "b"])
    path.write_text(json.dumps({"prompt": "q"}) + "\n")
    with pytest.raises(DataError, match=r"c\.jsonl:1: has no list of completions"):
        read_candidates(path)
    path.write_text("")
    with pytest.raises(DataError, match="no candidates"):
        read_candidates(path)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"id": "a", "prompt": "r", "completions": ["a", "b"]}, "the id a is another row's too"),
        (
            {"prompt": [{"role": "wizard", "content": "q"}], "completions": ["a"]},
            "'wizard' is not a role; ",
        ),
        ({"prompt": [], "completions": ["a"]}, "the prompt is empty"),
    ],
)
def test_rows_that_would_be_misread_are_named(tmp_path: Path, second: dict[str, Any], said: str) -> None:
    path = tmp_path / "c.jsonl"
    first = {"id": "a", "prompt": "q", "completions": [{"text": "a", "tokens": "many"}, "b"]}
    path.write_text(json.dumps(first) + "\n")
    assert [row.completions[0].tokens for row in read_candidates(path)] == [None]
    path.write_text("".join(json.dumps(row) + "\n" for row in (first, second)))
    with pytest.raises(DataError, match=rf"c\.jsonl:2: {re.escape(said)}"):
        read_candidates(path)


def test_tool_calls_of_a_prompt_are_read_back(tmp_path: Path) -> None:
    call = ToolCall("f", '{"a": 1}', "c1")
    prompt = (Message("user", "q"), Message("assistant", "", (call,)), Message("tool", "1", tool_call_id="c1"))
    row = {"id": "a", "prompt": as_turns(prompt), "completions": ["x"]}
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert read_candidates(path)[0].prompt == prompt
    path.write_text(json.dumps({**row, "prompt": [{"role": "user", "content": 3}]}) + "\n")
    with pytest.raises(DataError, match=r"c\.jsonl:1: prompt\[0\] is int 3"):
        read_candidates(path)


def test_answers_of_several_models_keep_their_origins(tmp_path: Path) -> None:
    completions = [{"text": "a", "model": "x", "identity": "h", "seed": 1, "decoding": {"top_p": 0.5}}, {"text": "b"}]
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"prompt": "q", "model": "y", "seed": 2, "completions": completions}) + "\n")
    (row,) = read_candidates(path)
    assert row.origin(0) == AnswerOrigin("x", "h", 1, {"top_p": 0.5})
    assert row.origin(1) == AnswerOrigin("y", None, 2), "a completion without an origin has its row's"
    assert row.columns == {}
    with JsonlWriter(tmp_path / "again.jsonl") as file:
        file.write(row.to_json())
    assert read_candidates(tmp_path / "again.jsonl") == [row]


def test_fields_of_another_type_are_the_users_columns(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    row = {
        "id": "a",
        "prompt": "q",
        "completions": ["x"],
        "seed": "tomato",
        "decoding": "utf-8",
        "tools": [{"name": "f"}],
    }
    path.write_text(json.dumps({**row, "model": None, "columns": {"answer": 4}}) + "\n")
    (read,) = read_candidates(path)
    assert read.columns == {"seed": "tomato", "decoding": "utf-8", "answer": 4}
    assert (read.origins, read.tools) == ((), '[{"name": "f"}]')
    assert read.judge_columns == {**read.columns, "tools": '[{"name": "f"}]'}
    path.write_text(json.dumps({**row, "columns": ["answer"]}) + "\n")
    with pytest.raises(DataError, match=r"c\.jsonl:1: columns is list, not an object"):
        read_candidates(path)


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    good = json.dumps({"id": "a", "prompt": "q", "completions": ["x"]})
    path.write_text(f"{good}\n{{}}\n")
    rows = iter_candidates(path)
    assert next(rows).id == "a"
    with pytest.raises(DataError, match=r"c\.jsonl:2"):
        next(rows)
