"""Logs as Inspect AI writes them, as a zip and as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from palate.errors import DataError
from palate.evaluation.logs.inspect_ai import read_inspect, to_number

if sys.version_info >= (3, 14):
    import zipfile
else:
    from backports.zstd import zipfile

HEADER = {"version": 2, "status": "success", "eval": {"task": "arith", "model": "openai/small", "dataset": {}}}


def sample(item: int | str, value: Any, *, epoch: int = 1, scorer: str = "match", **changes: Any) -> dict[str, Any]:
    scores = {scorer: {"value": value, "answer": "4", "explanation": ""}}
    return {"id": item, "epoch": epoch, "input": f"q{item}", "target": "4", "scores": scores, **changes}


def write_zip(
    path: Path,
    samples: list[dict[str, Any]],
    header: dict[str, Any] | None = HEADER,
    compression: int = zipfile.ZIP_ZSTANDARD,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": HEADER["eval"], "plan": {}}))
        for one in samples:
            archive.writestr(f"samples/{one['id']}_epoch_{one['epoch']}.json", json.dumps(one))
        if header is not None:
            archive.writestr("header.json", json.dumps(header))
    return path


def write_json(path: Path, samples: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({**HEADER, "samples": samples}, indent=2))
    return path


def test_older_versions_compress_otherwise(tmp_path: Path) -> None:
    samples = [sample(1, "C"), sample(2, "I")]
    found = read_inspect(write_zip(tmp_path / "a.eval", samples, compression=zipfile.ZIP_DEFLATED))
    assert found == read_inspect(write_zip(tmp_path / "b.eval", samples))


def test_both_forms_are_read_alike(tmp_path: Path) -> None:
    samples = [sample(1, "C"), sample(2, "I"), sample("x", "P"), sample(4, "N")]
    found = read_inspect(write_zip(tmp_path / "a.eval", samples))
    assert found.metrics == {"match": {"1": 1.0, "2": 0.0, "x": 0.5, "4": 0.0}}
    assert found.name == "openai/small, arith"
    assert found == read_inspect(write_json(tmp_path / "a.json", samples))


def test_epochs_are_averaged_by_item(tmp_path: Path) -> None:
    samples = [sample(1, value, epoch=epoch) for epoch, value in enumerate(["C", "C", "I", "I"], 1)]
    found = read_inspect(write_zip(tmp_path / "a.eval", [*samples, sample(2, "C")]))
    assert found.metrics == {"match": {"1": 0.5, "2": 1.0}}
    assert found.repeated == 1


def test_mappings_numbers_and_several_scorers(tmp_path: Path) -> None:
    first = sample(1, {"fluent": 3, "true": "C"}, scorer="rubric")
    first["scores"]["f1"] = {"value": 0.25}
    found = read_inspect(write_json(tmp_path / "a.json", [first, sample(2, {"fluent": 5}, scorer="rubric")]))
    assert found.metrics == {
        "rubric/fluent": {"1": 3.0, "2": 5.0},
        "rubric/true": {"1": 1.0, "2": None},
        "f1": {"1": 0.25, "2": None},
    }


def test_failed_samples_have_no_value_and_are_counted(tmp_path: Path) -> None:
    failed = {**sample(2, "C"), "scores": None, "error": {"message": "timeout", "traceback": ""}}
    found = read_inspect(write_zip(tmp_path / "a.eval", [sample(1, "C"), failed], header=None))
    assert found.metrics == {"match": {"1": 1.0, "2": None}}
    assert found.notes == (
        "the evaluation has status unfinished: the log may hold a part of the samples",
        "1 of 2 samples failed and have no value",
    )


def test_the_content_of_a_conversation_is_not_its_message_ids(tmp_path: Path) -> None:
    def log(name: str, message_id: str, text: str) -> dict[str, str]:
        turns = [{"id": message_id, "role": "user", "content": [{"type": "text", "text": text, "refusal": None}]}]
        return dict(read_inspect(write_json(tmp_path / name, [sample(1, "C", input=turns)])).hashes)

    assert log("a.json", "aa", "q") == log("b.json", "bb", "q") != log("c.json", "aa", "r")


def test_words_are_numbers() -> None:
    assert [to_number(value) for value in ("C", "no", "TRUE", "0.5", True, 2)] == [1.0, 0.0, 1.0, 0.5, 1.0, 2.0]
    assert [to_number(value) for value in (None, "A", [1], float("inf"))] == [None] * 4


def test_damaged_logs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples; run Inspect with --log-samples"):
        read_inspect(write_zip(tmp_path / "a.eval", []))
    foreign = tmp_path / "b.eval"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(DataError, match=r"without header\.json: not a log of Inspect"):
        read_inspect(foreign)
    with pytest.raises(DataError, match="no metric has a number"):
        read_inspect(write_json(tmp_path / "c.json", [sample(1, None)]))
    whole = write_zip(tmp_path / "d.eval", [sample(1, "C", input="long " * 200)])
    content = bytearray(whole.read_bytes())
    at = content.index(b"samples/1_epoch_1.json") + 40
    content[at : at + 8] = b"\xff" * 8
    whole.write_bytes(content)
    with pytest.raises(DataError, match=r"d\.eval: the log is damaged"):
        read_inspect(whole)
