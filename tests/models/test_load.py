"""Folders that are nearly models: what is missing, cut or of another shape is said in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.errors import ArtifactError, ModelError
from palate.models import load
from palate.models.load import load_model, load_tokenizer, resolve_name
from tiny import save_tiny

CPU = torch.device("cpu")
NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("whole") / "llama")


@pytest.fixture
def changed(whole: Path, tmp_path: Path) -> Callable[[Callable[[dict[str, torch.Tensor]], None]], str]:
    """The model with its tensors changed."""

    def make(change: Callable[[dict[str, torch.Tensor]], None]) -> str:
        folder = shutil.copytree(whole, tmp_path / "changed")
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return str(folder)

    return make


def test_a_whole_model_loads_as_it_was_saved(whole: Path) -> None:
    model = load_model(str(whole), device=CPU)
    assert torch.equal(model.state_dict()[NAME], load_file(whole / "model.safetensors")[NAME])


@pytest.mark.parametrize("head", ["lm", "reward"])
def test_a_weight_that_no_file_has_is_never_made_up(
    changed: Callable[[Callable[[dict[str, torch.Tensor]], None]], str], head: str
) -> None:
    name = changed(lambda tensors: tensors.pop(NAME))  # type: ignore[arg-type,return-value]
    with pytest.raises(ModelError, match=f"weights are missing from its files: {NAME}; download or save it again"):
        load_model(name, device=CPU, head=head)


def test_a_weight_of_another_shape_is_refused(
    changed: Callable[[Callable[[dict[str, torch.Tensor]], None]], str],
) -> None:
    name = changed(lambda tensors: tensors.update({NAME: tensors[NAME][:5].clone()}))
    with pytest.raises(ModelError, match=r"other shapes than its config\.json says"):
        load_model(name, device=CPU)


def test_a_folder_without_a_tokenizer_is_said_so(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*", "chat_template*"))
    with pytest.raises(ModelError, match=r"bare: no tokenizer is in this folder \(tokenizer.json\)"):
        load_tokenizer(str(folder))


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ArtifactError, match="cannot be written, a file or folder of another kind is in the way"):
        resolve_name("smollm2-135m-instruct")


def test_a_folder_with_a_space_is_quoted_in_the_command_that_converts_it(tmp_path: Path) -> None:
    folder = tmp_path / "old model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"palate model convert '.*old model' --output '.*old model-safetensors'"):
        resolve_name(str(folder))


@pytest.mark.parametrize("twice", [True, False])
def test_four_bits_are_quantised_as_the_config_says(monkeypatch: pytest.MonkeyPatch, twice: bool) -> None:
    """bitsandbytes and a GPU are not needed to see what they would be told."""
    import transformers

    monkeypatch.setattr(transformers, "BitsAndBytesConfig", lambda **given: given)
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda _: True)
    told = load._quantised(4, torch.device("cuda"), twice=twice)
    assert told["device_map"] == {"": torch.device("cuda")}
    assert told["quantization_config"] == {
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": twice,
        "bnb_4bit_compute_dtype": torch.bfloat16,
    }
    with pytest.raises(ModelError, match="quantization_bit: 4 needs a CUDA GPU"):
        load._quantised(4, torch.device("cpu"))
