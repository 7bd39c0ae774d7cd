"""Tokenised rows are written once for each combination of data, tokenizer, template and settings."""

from __future__ import annotations

import errno
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.artifacts import read_json, write_json
from palate.config.load import config_from_values
from palate.errors import ArtifactError
from palate.models.loading.load import load_tokenizer
from palate.text.group_file import GroupFile, GroupWriter
from palate.text.groups import EncodedGroup
from palate.text.template import load_template
from palate.training.methods import build_method
from palate.training.setup import dataset, session, token_store
from palate.training.setup.dataset import RunData, build_data
from palate.training.setup.token_store import read_or_write
from runs import pairs, run, values, weights, write_rows
from tiny import tiny_tokenizer


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALATE_TOKENS", str(tmp_path / "tokens"))
    return tmp_path / "tokens"


def built(model: Path, folder: Path, *, tokenizer: Any = None, template: str | None = None, **changed: Any) -> RunData:
    config = config_from_values(values(model, folder / "run", rows=12, **changed)).config
    return build_data(config, build_method(config), load_template(tokenizer or load_tokenizer(str(model)), template))


def test_a_second_run_reads_what_the_first_wrote(model: Path, tmp_path: Path) -> None:
    first, again = built(model, tmp_path, val_size=3), built(model, tmp_path, val_size=3, learning_rate=1.0)
    assert first.tokenised is None
    assert again.tokenised is not None
    assert f"tokens    read from {again.tokenised}" in again.summary
    assert (first.facts, first.report, first.prompts) == (again.facts, again.report, again.prompts)
    assert len(again.prompts) == again.facts["eval_groups"] == 3
    for one, other in zip([*first.train, *first.evaluation], [*again.train, *again.evaluation], strict=True):
        assert one.content_hash == other.content_hash


def test_what_changes_the_tokens_is_tokenised_anew(model: Path, tmp_path: Path) -> None:
    built(model, tmp_path)
    longer = tiny_tokenizer(texts=["the answer is yes and the question was no"] * 9)
    for changed in (
        {"cutoff_len": 40},
        {"truncation": "drop"},
        {"val_size": 2},
        {"val_size": 2, "seed": 7},
        {"template": "plain"},
        {"tokenizer": longer},
        {"stage": "sft"},
        {"stage": "sft", "train_on_prompt": True},
    ):
        assert built(model, tmp_path, **changed).tokenised is None, changed
    assert built(model, tmp_path, seed=7).tokenised is not None  # nothing is drawn
    write_rows(tmp_path / "pairs12.jsonl", pairs(12, seed=4))
    assert built(model, tmp_path).tokenised is None


@pytest.mark.parametrize("name", ["train/groups.bin", "train/index.bin", "facts.json"])
def test_an_incomplete_folder_is_written_anew(model: Path, tmp_path: Path, store: Path, name: str) -> None:
    facts = built(model, tmp_path).facts
    (folder,) = (path for path in store.iterdir() if path.is_dir())
    (folder / name).write_bytes((folder / name).read_bytes()[:-5])
    again = built(model, tmp_path)
    assert again.tokenised is None
    assert again.facts == facts


def test_a_full_disk_leaves_nothing(model: Path, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(GroupWriter, "extend", full)
        with pytest.raises(ArtifactError, match=r"the disk is full.*; PALATE_TOKENS names another folder"):
            built(model, tmp_path)
    assert not [path for path in store.iterdir() if path.is_dir()]
    assert built(model, tmp_path).facts["train_groups"] == 12


def test_of_two_writers_at_once_one_writes() -> None:
    written: list[Path] = []
    found: list[tuple[Any, bool]] = []

    def write(folder: Path) -> None:
        written.append(folder)
        time.sleep(1.5)  # longer than the other waits before it says so
        write_json(folder / "x.json", 5)

    def work() -> None:
        found.append(read_or_write("key", write, lambda folder: read_json(folder / "x.json")))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert sorted(found) == [(5, False), (5, True)]


def test_folders_that_no_run_opens_are_deleted(model: Path, tmp_path: Path, store: Path) -> None:
    old, recent = store / "old", store / ".new.tmp-1"
    for folder in (old, recent):
        folder.mkdir(parents=True)
    os.utime(old, (0, time.time() - 31 * 86400))
    built(model, tmp_path)
    assert not old.exists()
    assert recent.exists()


def test_rows_that_may_change_unseen_are_kept_for_this_run_only(
    model: Path, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "plugin_points", lambda group: {"mine": object()})
    data = built(model, tmp_path)
    assert not [path for path in store.iterdir() if path.is_dir()]
    assert len({group.id for group in data.train}) == 12
    assert built(model, tmp_path).tokenised is None


def test_another_version_of_the_code_tokenises_anew(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(model, tmp_path)
    monkeypatch.setattr(token_store, "_code", lambda: "changed")
    assert built(model, tmp_path).tokenised is None


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_weights_are_those_of_groups_in_memory(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    changed: dict[str, Any] = {"rows": 12, "num_train_epochs": 2, "val_size": 4, "reference_cache": "auto"}
    changed |= {"stage": stage, "health": "off", "max_tokens_per_batch": 90}
    run(model, tmp_path / "file", **changed)

    def in_memory(*given: Any) -> RunData:
        data = build_data(*given)
        return replace(data, train=list(data.train), evaluation=list(data.evaluation))

    monkeypatch.setattr(session, "build_data", in_memory)
    run(model, tmp_path / "memory", **changed)
    one, other = weights(tmp_path / "file"), weights(tmp_path / "memory")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_reads_the_next_rows_and_no_others(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: dict[str, Any] = {"rows": 16, "per_device_train_batch_size": 2, "save_steps": 5, "save_strategy": "steps"}
    run(model, tmp_path / "whole", **changed)
    run(model, tmp_path / "part", **changed, max_steps=5)  # of 8
    order: list[int] = []
    read = GroupFile.read

    def logged(file: GroupFile, index: int) -> EncodedGroup:
        order.append(index)
        return read(file, index)

    monkeypatch.setattr(GroupFile, "read", logged)
    run(model, tmp_path / "part", **changed, resume_from_checkpoint=True)
    resumed, order = order, []
    run(model, tmp_path / "again", **changed)
    assert resumed[-6:] == order[-6:]  # 3 steps of 2 rows
    assert len(resumed) < len(order) - 10  # those of the 5 steps are not read again
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "part")
    assert all(torch.equal(one[name], other[name]) for name in one)
