"""The file of `--save`: rows as other trainers read them, in order, and none that was undone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from palate.artifacts import read_jsonl
from palate.data.load import load_records
from palate.errors import ArtifactError, DataError
from palate.feedback.page.save import PreferenceFile, preference_row
from palate.records import Message, PreferencePair, ToolCall

PROMPT = (
    Message("system", "be brief"),
    Message("user", "what is blue?"),
    Message("assistant", "the sky"),
    Message("user", "and red?"),
)


def row(number: int) -> dict[str, object]:
    return dict(preference_row((Message("user", f"question {number}"),), f"good {number}", f"bad {number}"))


def test_a_pair_is_written_as_conversations() -> None:
    assert preference_row(PROMPT, "a rose", "ask me later") == {
        "conversations": [
            {"from": "system", "value": "be brief"},
            {"from": "human", "value": "what is blue?"},
            {"from": "gpt", "value": "the sky"},
            {"from": "human", "value": "and red?"},
        ],
        "chosen": "a rose",
        "rejected": "ask me later",
    }


def test_a_tool_call_and_its_result_keep_their_speakers() -> None:
    asked = (
        Message("user", "how warm is it?"),
        Message("assistant", "", tool_calls=(ToolCall("weather", '{"at": "home"}'),)),
        Message("tool", "21"),
    )
    assert preference_row(asked, "21 degrees", "cold")["conversations"][1:] == [
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"at": "home"}}'},
        {"from": "observation", "value": "21"},
    ]


def test_what_the_format_cannot_express_is_refused() -> None:
    asked = (Message("user", "x"), Message("assistant", "y", reasoning_content="because"), Message("user", "z"))
    with pytest.raises(DataError, match="cannot be saved as conversations: a turn has reasoning"):
        preference_row(asked, "a", "b")


def test_training_reads_the_file_back_as_the_same_pairs(tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    with PreferenceFile(path) as file:
        file.change(None, preference_row(PROMPT, "a rose", "ask\u2028me later"))
    (pair,) = load_records(str(path), kind=PreferencePair).records
    assert isinstance(pair, PreferencePair)
    assert pair.prompt == PROMPT
    assert (pair.chosen, pair.rejected) == (
        (Message("assistant", "a rose"),),
        (Message("assistant", "ask\u2028me later"),),
    )


def test_rows_are_in_the_file_at_once_and_an_undone_one_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "preferences.jsonl"
    with PreferenceFile(path) as file:
        for number in (1, 2, 3):
            file.change(None, row(number))
            assert read_jsonl(path)[-1] == row(number)
        file.change(row(2), None)
        assert read_jsonl(path) == [row(1), row(3)]
        file.change(row(3), row(4))
        file.change(row(4), row(4))
        file.change(None, None)
        assert read_jsonl(path) == [row(1), row(4)]
        file.change(None, row(5))
    assert read_jsonl(path) == [row(1), row(4), row(5)]


def test_of_equal_rows_the_newest_is_removed_and_others_keep_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    # Somebody's own rows, spelt otherwise, with a line separator that is not a line break in JSON Lines.
    own = json.dumps(row(1), ensure_ascii=False, separators=(",", ":")) + "\n" + '{"note": "a\u2028b"}\n'
    path.write_text(own, encoding="utf-8")
    with PreferenceFile(path) as file:
        file.change(None, row(1))
        file.change(row(1), None)
        assert path.read_text(encoding="utf-8") == own
        file.change(row(9), None)  # somebody took it out already
        assert path.read_text(encoding="utf-8") == own


@pytest.mark.parametrize(("left", "kept"), [('{"a": 1}', [{"a": 1}]), ('{"a": 1}\n{"b": ', [{"a": 1}])])
def test_a_last_line_without_a_break_is_kept_if_it_is_whole(
    tmp_path: Path, left: str, kept: list[dict[str, int]]
) -> None:
    path = tmp_path / "preferences.jsonl"
    path.write_text(left, encoding="utf-8")
    with PreferenceFile(path) as file:
        file.change(None, row(1))
    assert read_jsonl(path) == [*kept, row(1)]


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    code = (
        "import sys; from palate.errors import ArtifactError; from palate.feedback.page.save import PreferenceFile\n"
        "try: PreferenceFile(sys.argv[1])\nexcept ArtifactError as error: print(error)"
    )
    with PreferenceFile(path):
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{path}: another palate process writes to this file; wait for it or name another file\n", (
        done.stderr
    )
    PreferenceFile(path).close()


@pytest.mark.parametrize(
    ("content", "said"),
    [('[\n{"a": 1}\n]\n', ":1: not valid JSON"), ('"text"\n', "expected a JSON object, found str")],
)
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content, encoding="utf-8")
    for _ in range(2):  # the first refusal leaves no lock
        with pytest.raises(ArtifactError, match=f"{said}.*; --save appends to JSON Lines files only"):
            PreferenceFile(path)
    assert path.read_text(encoding="utf-8") == content


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ArtifactError, match="cannot be written"):
            PreferenceFile(tmp_path / "preferences.jsonl")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be (written|read)"):
        PreferenceFile(tmp_path)
