"""Names become models: built-in, local folder or hub id; safetensors only; one clear line for whatever is wrong."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from palate.errors import ModelError
from palate.models.builtin import SMOLLM2, smollm2
from palate.models.convert import PICKLES, pickled_weights
from palate.models.precision import Precision
from palate.models.save import quiet

_DROPOUTS = (
    "attention_dropout",
    "hidden_dropout",
    "dropout",
    "activation_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "resid_dropout",
    "attn_dropout",
    "embed_dropout",
    "embedding_dropout",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "residual_dropout",
)


# One of these is there wherever a tokenizer is.
_TOKENIZERS = ("tokenizer*", "*.model", "vocab*", "spiece*", "merges.txt")


def resolve_name(name: str) -> str:
    """The folder or hub id that a model's name stands for.

    Raises:
        ModelError: a local folder without a model in it, or with pickled weights only.
    """
    if name == SMOLLM2:
        return str(smollm2())
    path = Path(name)
    if path.is_dir():
        _check_folder(path)
        return str(path)
    if path.is_file():
        hint = f"; a pickle is converted once, offline: {_conversion(path.parent)}" if path.suffix in PICKLES else ""
        raise ModelError(f"{name}: a model is a folder with config.json and *.safetensors, this is a file{hint}")
    looks_local = (
        name.startswith((".", "/", "~")) or name.count("/") > 1 or (path.parent.is_dir() and path.parent != Path())
    )
    if looks_local or name.count("/") == 0:
        near = _nearest(path)
        raise ModelError(
            f"{name}: no such model folder{near}; a hub id looks like owner/name, the built-in is {SMOLLM2}"
        )
    return name


def _check_folder(path: Path) -> None:
    if not (path / "config.json").exists():
        kind = "an adapter: name its base as model_name_or_path and this folder as adapter_name_or_path"
        hint = f"it holds {kind}" if (path / "adapter_config.json").exists() else "config.json is missing"
        raise ModelError(f"{path}: not a model folder, {hint}")
    if any(path.glob("*.safetensors")):
        return
    pickles = pickled_weights(path)
    if pickles:
        raise ModelError(
            f"{path}: {pickles[0].name} is a pickle, which can run code when loaded; convert it once, offline: "
            f"{_conversion(path)}"
        )
    raise ModelError(f"{path}: config.json is there, but no weights (*.safetensors)")


def _conversion(folder: Path) -> str:
    return shlex.join(["palate", "model", "convert", str(folder), "--output", f"{folder}-safetensors"])


def _nearest(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, [*siblings, SMOLLM2], n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a model.

    Raises:
        ModelError: there is none, or it is not a fast one (offsets are needed).
    """
    place = resolve_name(name)
    if Path(place).is_dir() and not any(any(Path(place).glob(pattern)) for pattern in _TOKENIZERS):
        raise ModelError(
            f"{name}: no tokenizer is in this folder (tokenizer.json); copy it there from the model that it came from"
        )
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"{name}: no tokenizer could be loaded: {_first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{name}: palate needs a fast tokenizer (tokenizer.json), this one is {type(tokenizer).__name__}"
        )
    return tokenizer


def load_model(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dropout: float = 0.0,
    quantization_bit: int | None = None,
    double_quantization: bool = True,
    head: str = "lm",
) -> nn.Module:
    """A model with all dropout set to `dropout`, on `device`.

    Args:
        name: built-in name, folder or hub id.
        dtype: of the parameters; float32 for whatever trains.
        dropout: probability for every dropout that the architecture has.
        quantization_bit: 4 or 8 loads the weights quantised (QLoRA), which needs bitsandbytes and a GPU.
        double_quantization: of 4 bits, whether the scales are quantised too, which saves 0.4 bits a parameter.
        head: `lm` for a causal LM, `reward` for a sequence classifier with one output; a head that the files lack
            starts at 0.

    Raises:
        ModelError: the model cannot be loaded, or has no such head.
    """
    place = resolve_name(name)
    loader = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    try:
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=trust_remote_code)
        _set_dropout(config, dropout)
        if head == "reward":
            config.num_labels = 1
        extra = _quantised(quantization_bit, device, twice=double_quantization)
        with quiet():
            model, loading = loader.from_pretrained(
                place,
                config=config,
                revision=revision,
                trust_remote_code=trust_remote_code,
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                **extra,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        if "ignore_mismatched_sizes" in str(error):
            raise ModelError(f"{name}: its weights have other shapes than its config.json says") from error
        raise ModelError(f"{name}: the model could not be loaded: {_first_line(error)}") from error
    except Exception as error:
        # safetensors raises its own type for a damaged file.
        if type(error).__name__ != "SafetensorError":
            raise
        raise ModelError(f"{name}: its weights are damaged: {_first_line(error)}") from error
    _refuse_missing(name, loading["missing_keys"], head=head)
    if head == "reward":
        _begin_head(model, loading["missing_keys"])
    if not extra:
        model.to(device)
    return model  # type: ignore[no-any-return]


def _refuse_missing(name: str, missing: Iterable[str], *, head: str) -> None:
    """A parameter that no file filled is random: that is never what a user of a pretrained model wants."""
    lost = sorted(key for key in missing if head == "lm" or not key.startswith("score."))
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ModelError(f"{name}: weights are missing from its files: {lost[0]}{more}; download or save it again")


def _begin_head(model: nn.Module, missing: Iterable[str]) -> None:
    """A reward head that no file filled starts at 0: the first rewards are equal."""
    if any(key.startswith("score.") for key in missing):
        for parameter in model.get_submodule("score").parameters():
            nn.init.zeros_(parameter)


def _set_dropout(config: Any, dropout: float) -> None:
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for key in _DROPOUTS:
            if isinstance(getattr(part, key, None), int | float):
                setattr(part, key, dropout)


def check_quantisation(bits: int | None, device: torch.device) -> None:
    """Refuse `quantization_bit` where nothing could compute with such weights, before anything is loaded.

    Raises:
        ModelError: no CUDA GPU, or no bitsandbytes.
    """
    if bits is not None and device.type != "cuda":
        raise ModelError(
            f"quantization_bit: {bits} needs a CUDA GPU (bitsandbytes), this run is on {device.type}; remove the key "
            "(precision: bf16 and finetuning_type: lora take the least memory without it)"
        )
    if bits is not None and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"quantization_bit: {bits} needs bitsandbytes: pip install bitsandbytes")


def _quantised(bits: int | None, device: torch.device, *, twice: bool = True) -> dict[str, Any]:
    check_quantisation(bits, device)
    if bits is None:
        return {}
    from transformers import BitsAndBytesConfig  # pulls in an optional extra

    quantised = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=twice,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantised, "device_map": {"": device}}


def store_frozen_in(model: nn.Module, precision: Precision) -> int:
    """Keep frozen linear weights in the autocast dtype where that loses nothing, and return the bytes saved.

    Under autocast a linear layer would cast its weight to that dtype at every use, so results are bit-identical.
    Embeddings and norms are not linear layers and stay as they are, and so does a weight tied to an embedding.
    """
    if precision.autocast is None:
        return 0
    tied = {p.data_ptr() for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters(recurse=False)}
    saved = 0
    for module in model.modules():
        if type(module) is not nn.Linear:
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad or parameter.dtype != torch.float32 or parameter.data_ptr() in tied:
                continue
            small = parameter.data.to(precision.autocast)
            if torch.equal(small.float(), parameter.data):
                parameter.data = small
                saved += small.numel() * 2
    return saved


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    offline = (
        " (offline: HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") and "connect" in str(error) else ""
    )
    return (lines[0] if lines else type(error).__name__) + offline
