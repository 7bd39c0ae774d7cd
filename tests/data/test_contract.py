"""No verb writes over what it reads, or over what palate did not write."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.data.augment import AugmentPlan, augment
from palate.data.contract import check_output_file, named_hashes
from palate.data.convert import convert
from palate.data.curate import curate, read_rules
from palate.data.mix_files import mix_files
from palate.data.sources.open import open_source
from palate.data.split_files import split_files
from palate.errors import UsageError

VERBS: dict[str, Callable[[str, Path], Any]] = {
    "curate": lambda data, out: curate(data, out, read_rules({"rules": ["exact_duplicates"]})),
    "split": lambda data, out: split_files(data, out, {"validation": 5}),
    "mix": lambda data, out: mix_files([data], out, rows=7),
    "augment": lambda data, out: augment(data, out, AugmentPlan({"other_topic": 3})),
}


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    """A folder that palate wrote."""
    rows = [{"prompt": f"q {n}", "chosen": f"a {n}", "rejected": f"b {n}"} for n in range(20)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    VERBS["curate"](str(tmp_path / "in.jsonl"), tmp_path / "curated")
    return tmp_path / "curated"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("verb", VERBS)
def test_the_folder_that_is_read_is_not_replaced(verb: str, curated: Path, tmp_path: Path) -> None:
    before = content(curated)
    for dataset in (curated, curated / "kept.jsonl"):
        with pytest.raises(UsageError, match=r"contains the input file kept\.jsonl; name another folder"):
            VERBS[verb](str(dataset), curated)
    assert content(curated) == before
    VERBS[verb](str(curated), tmp_path / "other")
    VERBS[verb](str(curated), tmp_path / "other")  # what palate wrote, and is not read, is replaced
    assert content(curated) == before


def test_a_file_that_is_read_is_not_replaced_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "in.jsonl")
    with pytest.raises(UsageError, match="is an input file; name another file"):
        convert(str(tmp_path / "in.jsonl"), tmp_path / "link.jsonl")
    check_output_file(tmp_path / "new.jsonl", [open_source(str(tmp_path / "in.jsonl"))])


@pytest.mark.parametrize("verb", ["curate", "split"])
def test_one_dataset_holds_one_kind(verb: str, tmp_path: Path) -> None:
    pairs, labels = tmp_path / "pairs.jsonl", tmp_path / "labels.jsonl"
    pairs.write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n' * 9)
    labels.write_text('{"prompt": "q", "completion": "a", "label": true}\n' * 9)
    with pytest.raises(UsageError, match=r"labels\.jsonl: holds labelled completions, .*pairs\.jsonl pairs"):
        VERBS[verb]([str(pairs), str(labels)], tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_the_current_folder_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match=r"^\.: is or contains the current folder; name another folder to write$"):
        mix_files(str(tmp_path / "in.jsonl"), Path())


def test_a_folder_may_have_the_name_of_another_with_an_ending(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "q", "chosen": "a", "rejected": "b"}\n')
    (tmp_path / "mixed.json").mkdir()
    mix_files(str(tmp_path / "in.jsonl"), tmp_path / "mixed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "mixed", "mixed.json"]


def test_excluded_datasets_are_named_by_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"prompt": "q"}\n')
    named = named_hashes([folder / "a.jsonl", folder, Path("palate-demo-heldout"), Path("owner/prompts")])
    assert [entry["name"] for entry in named] == ["a.jsonl", "a.jsonl", "demo_heldout.jsonl", "owner/prompts"]
    assert named[0]["sha256"] == hashlib.sha256(b'{"prompt": "q"}\n').hexdigest() == named[1]["sha256"]
