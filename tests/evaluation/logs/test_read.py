"""Results are recognised from their content, in files and folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.errors import DataError
from palate.evaluation.logs.items import ItemValues
from palate.evaluation.logs.read import read_log

LINE = {"doc_id": 0, "doc": {}, "resps": [], "doc_hash": "h", "metrics": ["acc"], "acc": 1.0}
INSPECT = {
    "status": "success",
    "eval": {"task": "t", "model": "m"},
    "samples": [{"id": 1, "epoch": 1, "input": "q", "scores": {"match": {"value": "C"}}}],
}


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    for name, content in (
        ("a.txt", LINE),
        ("b.txt", INSPECT),
        ("c.txt", {"items": ItemValues("w", {"won": {"1": 1.0}}).to_json()}),
    ):
        (tmp_path / name).write_text(json.dumps(content))
    assert read_log(tmp_path / "a.txt").metrics == {"acc": {"0": 1.0}}
    assert read_log(tmp_path / "b.txt").metrics == {"match": {"1": 1.0}}
    assert read_log(tmp_path / "c.txt").metrics == {"won": {"1": 1.0}}


def test_a_folder_of_tasks_is_one_result(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "model"
    folder.mkdir(parents=True)
    for task in ("arc", "gsm8k"):
        (folder / f"samples_{task}_2026-01-02T03-04-05.678.jsonl").write_text(json.dumps(LINE) + "\n")
    (folder / "results_2026-01-02T03-04-05.678.json").write_text("{}")
    found = read_log(tmp_path / "out")
    assert found.metrics == {"arc/acc": {"arc/0": 1.0}, "gsm8k/acc": {"gsm8k/0": 1.0}}
    assert found.hashes == {"arc/0": "h", "gsm8k/0": "h"}
    (folder / "samples_arc_2026-02-02T03-04-05.678.jsonl").write_text(json.dumps(LINE) + "\n")
    with pytest.raises(DataError, match=r"two logs of arc, samples_arc_2026-01.* name one of the files"):
        read_log(tmp_path / "out")


def test_a_run_is_its_accuracy(tmp_path: Path) -> None:
    run = tmp_path / "dpo"
    run.mkdir()
    (run / "run.json").write_text('{"status": "completed"}')
    with pytest.raises(DataError, match=r"the run has no accuracy\.json; run `palate eval accuracy"):
        read_log(run)
    (run / "accuracy.json").write_text(json.dumps({"n": 1, "items": ItemValues("x", {"policy": {"1": 1.0}}).to_json()}))
    assert read_log(run) == ItemValues("dpo", {"policy": {"1": 1.0}})


def test_a_folder_with_one_result_is_that_result(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="the folder holds no result; name a result of palate eval"):
        read_log(tmp_path)
    for name in ("one.json", "two.json"):
        (tmp_path / name).write_text(json.dumps(INSPECT))
        if name == "one.json":
            assert read_log(tmp_path).name == "m, t"
    with pytest.raises(DataError, match="holds 2 results: name one of them"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", r"a\.json: cannot be read as a result of palate eval"),
        ("b.json", "{}", r'b\.json: holds no values by item \(no "items"\); name a result of palate eval'),
        ("c.eval", "PK", r"c\.eval: the log is damaged or not complete \(not a zip file\)"),
        ("d.jsonl", "", r"d\.jsonl: cannot be read as"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message) as refused:
        read_log(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        read_log(tmp_path / "none.json")
