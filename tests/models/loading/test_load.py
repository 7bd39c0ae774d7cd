"""Folders that are nearly models: what is missing, cut or of another shape is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from palate.artifacts import seal_folder
from palate.errors import ArtifactError, ModelError
from palate.models.loading import load
from palate.models.loading.load import load_model, load_tokenizer
from palate.models.loading.resolve import resolve_name
from palate.models.tuning.trainable import add_lora, merge_adapter
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


def test_a_flipped_byte_in_a_checkpoint_is_refused(whole: Path, tmp_path: Path) -> None:
    """The file stays valid safetensors: only the hash in the seal tells that a weight has changed."""
    folder = shutil.copytree(whole, tmp_path / "checkpoint-3")
    seal_folder(folder)
    load_model(str(folder), device=CPU)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match=r"checkpoint-3: model\.safetensors has changed since it was written"):
        load_model(str(folder), device=CPU)


def test_a_flipped_byte_in_an_adapter_is_refused(whole: Path, tmp_path: Path) -> None:
    add_lora(load_model(str(whole), device=CPU), rank=2, alpha=4).save_pretrained(tmp_path / "checkpoint-3")
    file = tmp_path / "checkpoint-3" / "adapter_model.safetensors"
    seal_folder(file.parent)
    merge_adapter(load_model(str(whole), device=CPU), str(file.parent))
    weights = bytearray(file.read_bytes())
    weights[-1] ^= 1
    file.write_bytes(weights)
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors has changed since it was written"):
        merge_adapter(load_model(str(whole), device=CPU), str(file.parent))


def test_a_pickled_adapter_is_refused(whole: Path, tmp_path: Path) -> None:
    add_lora(load_model(str(whole), device=CPU), rank=2, alpha=4).save_pretrained(tmp_path / "adapter")
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    torch.save(tensors, tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(ModelError, match=r"the adapter has no weights \(adapter_model\.safetensors\)"):
        merge_adapter(load_model(str(whole), device=CPU), str(tmp_path / "adapter"))


@pytest.fixture
def own_code(whole: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The model with code of its own in its folder, which leaves a file behind when it runs."""

    def make(model_type: str) -> Path:
        folder = shutil.copytree(whole, tmp_path / "own_code")
        mark = tmp_path / "ran"
        code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
        code += "from transformers import LlamaConfig as C, LlamaForCausalLM as M, PreTrainedTokenizerFast as T\n"
        (folder / "own.py").write_text(code, encoding="utf-8")
        maps = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M", "AutoModelForSequenceClassification": "own.M"}
        for name, change in (
            ("config.json", {"model_type": model_type, "architectures": ["M"], "auto_map": maps}),
            ("tokenizer_config.json", {"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["own.T", "own.T"]}}),
        ):
            values = json.loads((folder / name).read_text(encoding="utf-8")) | change
            (folder / name).write_text(json.dumps(values), encoding="utf-8")
        return folder

    return make


@pytest.mark.parametrize("head", ["lm", "reward"])
def test_code_in_a_models_folder_is_refused(own_code: Callable[[str], Path], tmp_path: Path, head: str) -> None:
    """`auto_map` in config.json names Python files of the repository; transformers would import them."""
    name = str(own_code("own"))
    with pytest.raises(ModelError, match="own_code: the model could not be loaded"):
        load_model(name, device=CPU, head=head)
    with pytest.raises(ModelError, match="own_code: no tokenizer could be loaded"):
        load_tokenizer(name)
    assert not (tmp_path / "ran").exists()


def test_a_known_architecture_never_runs_the_code_beside_it(own_code: Callable[[str], Path], tmp_path: Path) -> None:
    name = str(own_code("llama"))
    assert type(load_model(name, device=CPU)).__module__ == "transformers.models.llama.modeling_llama"
    assert not (tmp_path / "ran").exists()


def test_code_runs_where_the_config_allows_it(
    own_code: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above do not see run was there to be run."""
    from transformers import LlamaConfig, LlamaForCausalLM, dynamic_module_utils

    for known in (LlamaConfig, LlamaForCausalLM):  # set on the class that is loaded, for every later `save_pretrained`
        monkeypatch.setattr(known, "_auto_class", None)
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    load_model(str(own_code("llama")), device=CPU, trust_remote_code=True)
    assert (tmp_path / "ran").exists()


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
