"""Pickled weights become safetensors with the same values, and nothing in a pickle ever runs."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from palate.cli.main import main
from palate.errors import ModelError
from palate.models.loading.convert import convert, pickled_weights
from palate.models.loading.resolve import resolve_name
from tiny import save_tiny


@pytest.fixture(params=["llama", "qwen2"])  # with a tied head, and without
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def original(tmp_path: Path, kind: str) -> Path:
    return save_tiny(tmp_path / "original", kind)


@pytest.fixture
def pickled(tmp_path: Path, original: Path) -> Callable[..., Path]:
    """A folder whose weights are pickles, as whoever trained it has it."""

    def make(shards: int = 1, name: str = "pytorch_model.bin", wrap: str | None = None, **options: Any) -> Path:
        folder = tmp_path / "pickled"
        shutil.copytree(original, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        state = dict(AutoModelForCausalLM.from_pretrained(original).state_dict())
        names = list(state)
        if shards == 1:
            torch.save(state if wrap is None else {wrap: state, "epoch": 3}, folder / name, **options)
            return folder
        weight_map = {key: f"pytorch_model-{i % shards + 1:05}-of-{shards:05}.bin" for i, key in enumerate(names)}
        for file in set(weight_map.values()):
            torch.save({key: state[key] for key in names if weight_map[key] == file}, folder / file)
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        return folder

    return make


def same_model(a: Path, b: Path) -> bool:
    first, second = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"shards": 3},
        {"name": "weights.pth", "wrap": "state_dict"},
        {"name": "policy.pt", "wrap": "state"},
        {"_use_new_zipfile_serialization": False},
    ],
    ids=["bin", "sharded", "pth", "pt", "legacy"],
)
def test_the_model_is_the_same(tmp_path: Path, original: Path, pickled: Callable[..., Path], form: Any) -> None:
    folder = pickled(**form)
    for leftover in ("training_args.bin", "optimizer.pt", "rng_state_0.pth"):
        (folder / leftover).write_bytes(b"not read")
    with pytest.raises(ModelError, match="palate model convert"):
        resolve_name(str(folder))
    done = convert(folder, tmp_path / "out")
    assert same_model(original, tmp_path / "out")
    assert resolve_name(str(tmp_path / "out"))
    assert len(done.files) == form.get("shards", 1)
    assert done.tensors == sum(len(load_file(tmp_path / "out" / name)) for name in done.files)
    assert pickled_weights(tmp_path / "out") == []
    assert {p.name for p in original.iterdir()} - {"model.safetensors"} <= {p.name for p in done.folder.iterdir()}
    assert not list(done.folder.glob("*.bin")) + list(done.folder.glob("*.pt*"))


def test_a_tied_head_is_left_out_only_where_the_config_ties_it(
    tmp_path: Path, kind: str, pickled: Callable[..., Path]
) -> None:
    folder = pickled()
    convert(folder, tmp_path / "out")
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert ("lm_head.weight" in names) == (kind == "qwen2")
    assert "model.embed_tokens.weight" in names
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    convert(folder, tmp_path / "apart")
    assert "lm_head.weight" in load_file(tmp_path / "apart" / "model.safetensors")


def test_views_of_one_storage_are_stored_apart(tmp_path: Path) -> None:
    folder = tmp_path / "views"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    whole = torch.arange(12.0).reshape(3, 4)
    state = {"whole": whole, "row": whole[1], "turned": whole.T, "alone": torch.ones(2)}
    torch.save(state, folder / "pytorch_model.bin")
    convert(folder, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


def test_an_adapter_keeps_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    torch.save({"base_model.lora_A.weight": torch.ones(2, 2)}, folder / "adapter_model.bin")
    assert convert(folder, tmp_path / "out").files == ("adapter_model.safetensors",)


class Trap:
    """Runs a command when it is unpickled without care."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._mark}",)


@pytest.mark.parametrize("form", ["torch", "plain"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, mark = tmp_path / "trap", tmp_path / "mark"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    value = {"weight": torch.ones(2), "trap": Trap(mark)}
    if form == "torch":
        torch.save(value, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(value))
    assert main(["model", "convert", str(folder), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("palate: error: ")
    assert error.count("\n") == 1
    assert "pytorch_model.bin" in error
    assert "could run code" in error
    assert not mark.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trap"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"config.json": b"{}"}, "no pickled weights"),
        ({"pytorch_model.bin": b""}, "config.json is missing"),
        ({"config.json": b"{}", "pytorch_model.bin": b"PK\x03\x04 torn"}, "damaged"),
        ({"config.json": b"{}", "pytorch_model.bin": b""}, "damaged"),
        ({"config.json": b"{}", "a.bin": b"", "b.pth": b""}, "several pickles"),
        ({"config.json": b"{}", "model.safetensors": b""}, "nothing to convert"),
        ({"config.json": b"{}", "x.bin.index.json": b'{"weight_map": {"a": "gone.bin"}}'}, "names gone.bin"),
        ({"config.json": b"{}", "x.bin.index.json": b'{"weight_map": {"a": "../a.bin"}}'}, "names a.bin"),
        ({"config.json": b"{}", "x.bin.index.json": b"[]"}, "the index is damaged"),
    ],
)
def test_what_cannot_be_converted_is_one_line(
    tmp_path: Path, files: dict[str, bytes], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert main(["model", "convert", str(folder), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_numbers_without_tensors_are_no_weights(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    torch.save({"epoch": 3, "loss": 0.5}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no tensors by name in it \(found epoch, loss\)"):
        convert(folder, tmp_path / "out")


def test_an_existing_folder_is_left_alone(tmp_path: Path, pickled: Callable[..., Path]) -> None:
    folder = pickled()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="not empty"):
        convert(folder, tmp_path / "out")
    with pytest.raises(ModelError, match="not empty"):
        convert(folder, folder)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_result_for_machines(
    tmp_path: Path, pickled: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "convert", str(pickled()), "--output", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == ["model.safetensors"]
    assert found["bytes"] == sum(t.nbytes for t in load_file(tmp_path / "out" / "model.safetensors").values())
