"""Datasets are found by path, folder, registered name and hub id, and a wrong name gets an offer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data import load_records, open_source
from palate.data.turns.messages import Tags
from palate.errors import DataError
from palate.records import PreferencePair

ROWS = [{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(3)]


def lines(folder: Path, name: str, rows: list[dict[str, Any]] | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in (ROWS if rows is None else rows)))
    return path


def register(folder: Path, entries: dict[str, Any]) -> Path:
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder


def test_a_file(tmp_path: Path) -> None:
    source = open_source(str(lines(tmp_path, "pairs.v1.jsonl")))
    assert source.name == "pairs"
    assert list(source.rows()) == [(f"pairs.v1.jsonl:{n}", row) for n, row in enumerate(ROWS, 1)]


def test_a_folder_of_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", ".hidden/d.jsonl"):
        lines(tmp_path, f"set/{name}", [{"from": name}])
    (tmp_path / "set" / "README.md").write_text("not data")
    source = open_source(str(tmp_path / "set"))
    assert source.name == "set"
    assert [row_id for row_id, _ in source.rows()] == ["a.jsonl:1", "b.jsonl:1", "deep/c.jsonl:1"]


def test_of_a_folder_only_palates_own_cards_are_no_data(tmp_path: Path) -> None:
    for name in ("data.json", "train_data.json"):
        (tmp_path / name).write_text('[{"prompt": "q"}]')
    (tmp_path / "b.jsonl.data.json").write_text('{\n  "schema": "palate.data/1"\n}\n')
    assert [row_id for row_id, _ in open_source(str(tmp_path)).rows()] == ["data.json:1", "train_data.json:1"]


def test_a_folder_that_may_not_be_entered_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(tmp_path, "set/a.jsonl")
    (tmp_path / "set" / "locked").mkdir()
    scandir = os.scandir

    def locked(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", locked)
    with pytest.raises(DataError, match="locked: cannot be read: Permission denied"):
        open_source(str(tmp_path / "set"))


def test_a_name_too_long_for_the_disk_is_one_line() -> None:
    with pytest.raises(DataError, match="File name too long; check the path"):
        open_source("a" * 300 + ".jsonl")


def test_a_folder_with_splits_gives_one_of_them(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl", "test-00000-of-00001.jsonl"):
        lines(tmp_path, f"data/{name}", [{"file": name}])
    lines(tmp_path, "val/part.jsonl")

    def names(split: str | None) -> list[str]:
        return [path.name for path in open_source(str(tmp_path), split=split).files]

    assert names(None) == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert names("test") == ["test-00000-of-00001.jsonl"]
    assert names("validation") == ["part.jsonl"]
    with pytest.raises(DataError, match="no file of split 'dev'; splits in its file names: test, train, validation"):
        names("dev")


def test_a_saved_dataset_and_a_saved_dictionary(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(str(tmp_path / "one"), num_shards=2)
    datasets.DatasetDict({"train": saved, "test": saved.select([0])}).save_to_disk(str(tmp_path / "several"))
    assert [row for _, row in open_source(str(tmp_path / "one")).rows()] == ROWS
    assert [row for _, row in open_source(str(tmp_path / "several")).rows()] == ROWS
    assert [row for _, row in open_source(str(tmp_path / "several"), split="test").rows()] == ROWS[:1]
    with pytest.raises(DataError, match="has no split 'dev'; it has train, test"):
        open_source(str(tmp_path / "several"), split="dev")
    next((tmp_path / "one").glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="the saved dataset is incomplete"):
        open_source(str(tmp_path / "one"))


def test_names_of_dataset_info(tmp_path: Path) -> None:
    lines(tmp_path, "chat.jsonl")
    register(
        tmp_path,
        {
            "chat": {
                "file_name": "chat.jsonl",
                "formatting": "sharegpt",
                "ranking": True,
                "num_samples": 2,
                "columns": {"messages": "talk", "chosen": "good", "rejected": "bad"},
                "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "Mensch"},
            },
            "alpaca": {"file_name": "chat.jsonl", "columns": {"prompt": "ask", "query": "more", "response": "say"}},
        },
    )
    source = open_source("chat", dataset_dir=tmp_path)
    assert source.columns == {"conversations": "talk", "chosen": "good", "rejected": "bad"}
    assert source.tags == Tags(role="who", content="says", roles={"mensch": "user"})
    assert len(list(source.rows())) == 2
    alpaca = open_source("alpaca", dataset_dir=tmp_path)
    assert alpaca.columns == {"instruction": "ask", "input": "more", "output": "say"}
    assert alpaca.only_mapped


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("x.jsonl", "must be an object with file_name or hf_hub_url"),
        ({}, "has neither file_name nor hf_hub_url"),
        ({"script_url": "x"}, "has script_url, which palate does not load"),
        ({"file_name": "none.jsonl"}, "its file .* is not there"),
        ({"file_name": "a.jsonl", "formatting": "csv"}, "formatting 'csv' is unknown"),
        ({"file_name": "a.jsonl", "columns": {"promt": "x"}}, "columns cannot map 'promt' here"),
        ({"file_name": "a.jsonl", "columns": {"images": "x"}}, "maps images; palate reads text only"),
        ({"file_name": "a.jsonl", "tags": {"rol_tag": "x"}}, "unknown tag 'rol_tag'"),
        ({"file_name": "a.jsonl", "num_samples": "many"}, "num_samples must be a number"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, entry: Any, says: str) -> None:
    lines(tmp_path, "a.jsonl")
    register(tmp_path, {"name": entry})
    with pytest.raises(DataError, match=says):
        open_source("name", dataset_dir=tmp_path)


def test_an_entry_says_what_labels_mean(tmp_path: Path) -> None:
    rows = [{"prompt": "q", "response_1": "a", "response_2": "b", "label": label} for label in (0, 1)]
    lines(tmp_path, "rows.jsonl", rows)
    register(tmp_path, {"votes": {"file_name": "rows.jsonl", "labels": {"0": "response_2", "1": "response_1"}}})
    loaded = load_records("votes", kind=PreferencePair, dataset_dir=tmp_path)
    assert [pair.chosen[0].content for pair in loaded.records] == ["b", "a"]
    register(tmp_path, {"votes": {"file_name": "rows.jsonl", "labels": {"0": 1}}})
    with pytest.raises(DataError, match="labels must be an object of meanings by value"):
        open_source("votes", dataset_dir=tmp_path)


def test_a_broken_register_is_named(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset_info.json: cannot be read: Expecting property name"):
        open_source("x", dataset_dir=tmp_path)


def test_a_folder_of_datasets_is_not_a_dataset(tmp_path: Path) -> None:
    register(tmp_path, {"chat": {"file_name": "chat.jsonl"}})
    with pytest.raises(DataError, match="is a folder of datasets: set dataset_dir to it and dataset to one of chat"):
        open_source(str(tmp_path))


def test_a_path_inside_dataset_dir(tmp_path: Path) -> None:
    lines(tmp_path, "a.jsonl")
    assert open_source("a.jsonl", dataset_dir=tmp_path).files == (tmp_path / "a.jsonl",)


def test_a_missing_file_offers_the_nearest(tmp_path: Path) -> None:
    path = lines(tmp_path, "pairs.jsonl")
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path / "pair.jsonl"))
    assert str(caught.value).endswith(f"is not there; did you mean {path}?")
    with pytest.raises(DataError, match="did you mean palate-demo"):
        open_source("palate-dmo")
    with pytest.raises(DataError, match="there is no folder"):
        open_source(str(tmp_path / "none" / "deep.jsonl"))
    (tmp_path / "link.jsonl").symlink_to("gone.jsonl")
    with pytest.raises(DataError, match=r"is not there: it is a link to gone\.jsonl, which is missing$"):
        open_source(str(tmp_path / "link.jsonl"))
    with pytest.raises(DataError, match="give a file, a folder, a hub id"):
        open_source("zzzzz")


def test_an_empty_folder_and_a_file_of_unknown_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data file in it"):
        open_source(str(tmp_path))
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(DataError, match="unknown type of file"):
        open_source(str(tmp_path / "a.docx"))


def test_a_hub_id_is_asked_for_with_subset_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(path: str, **options: Any) -> Any:
        asked.append((path, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = open_source("owner/pairs", split="test", subset="en")
    assert asked == []  # nothing is fetched before rows are wanted
    assert next(source.rows()) == ("owner/pairs:1", ROWS[0])
    list(open_source("owner/pairs").rows())
    assert asked == [
        ("owner/pairs", {"name": "en", "split": "test"}),
        ("owner/pairs", {"name": None, "split": "train"}),
    ]


def test_a_hub_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(DataError) as caught:
        list(open_source("owner/no-such-dataset").rows())
    message = str(caught.value)
    assert message.startswith("dataset 'owner/no-such-dataset': no such file here, and the hub did not give it (")
    assert "\n" not in message


def test_arrow_in_a_folder(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    assert [row for _, row in open_source(str(tmp_path)).rows()] == ROWS


def test_data_imports_neither_torch_nor_datasets() -> None:
    heavy = ("torch", "transformers", "datasets", "pandas")
    script = f"import sys, palate.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def shards(folder: Path, numbers: list[int], of: int) -> Path:
    for number in numbers:
        rows = [{**row, "prompt": f"{number} {row['prompt']}"} for row in ROWS[: 1 + number % 3]]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"train-{number:05}-of-{of:05}.parquet")
    return folder


def test_shards_are_read_in_order_and_counted(tmp_path: Path) -> None:
    shards(tmp_path, [2, 0, 1], 3)
    for name in (str(tmp_path), f"{tmp_path}/train-*.parquet", f"{tmp_path}/**/*"):
        loaded = load_records(name, kind=PreferencePair)
        assert [record.prompt[-1].content[0] for record in loaded.records] == list("011222")
        assert loaded.sources[0].files == {f"train-0000{n}-of-00003.parquet": n + 1 for n in range(3)}
    named = load_records("train-0000[02]*", kind=PreferencePair, dataset_dir=tmp_path)
    assert [*named.sources[0].files.values()] == [1, 3]
    with pytest.raises(DataError, match="is not there"):
        open_source(f"{tmp_path}/nothing-*.parquet")
    (tmp_path / "README").write_text("read me")
    with pytest.raises(DataError, match=r"README: no type that palate reads; write a pattern of data files only"):
        open_source(f"{tmp_path}/*")


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [([0, 2, 3], "train-00001-of-00004 is missing;"), ([0], "00001-of-00004 is missing and 2 more"), ([1, 3, 4], "02")],
)
def test_a_missing_shard_is_named(tmp_path: Path, numbers: list[int], missing: str) -> None:
    with pytest.raises(DataError, match=missing):
        open_source(str(shards(tmp_path, numbers, 4)))
    assert open_source(str(tmp_path / f"train-{numbers[0]:05}-of-00004.parquet")).files
    shards(tmp_path, list(range(1, 5)), 4)
    (tmp_path / "train-00000-of-00004.parquet").unlink(missing_ok=True)
    assert len(open_source(str(tmp_path)).files) == 4  # counted from 1


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    damaged = shards(tmp_path, [0, 1, 2], 3) / "train-00001-of-00003.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"train-00001-of-00003\.parquet: not a complete Parquet file"):
        load_records(str(tmp_path), kind=PreferencePair)
