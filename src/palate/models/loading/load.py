"""Models and tokenizers by built-in name, local folder or hub id. Safetensors only; every error is one clear line."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from palate.artifacts import check_weights
from palate.errors import ModelError
from palate.models.attention.kernels import kernels_of
from palate.models.cpu.layers import apply_fused
from palate.models.frozen import saved_in, store_frozen_in, widen
from palate.models.loading.identity import model_hash
from palate.models.loading.resolve import resolve_name
from palate.models.precision import Precision
from palate.models.probe.probe import Probe, probe
from palate.models.tuning.trainable import TASKS, merge_adapter
from palate.models.tuning.vocabulary import enlarge_embedding
from palate.models.upstream import first_line, quiet

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

# Every tokenizer has one of these files.
_TOKENIZERS = ("tokenizer*", "*.model", "vocab*", "spiece*", "merges.txt")


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a model.

    Raises:
        ModelError: there is none, or it is not a fast one (palate needs its offsets).
    """
    source = resolve_name(name)
    if Path(source).is_dir() and not any(any(Path(source).glob(pattern)) for pattern in _TOKENIZERS):
        raise ModelError(
            f"{name}: no tokenizer is in this folder (tokenizer.json); copy it there from the original model"
        )
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(f"{name}: no tokenizer could be loaded: {_reason(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(
            f"{name}: palate needs a fast tokenizer (tokenizer.json), this one is {type(tokenizer).__name__}"
        )
    return tokenizer


def load_model(
    name: str,
    *,
    device: torch.device,
    frozen: Precision | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dropout: float = 0.0,
    quantization_bit: int | None = None,
    double_quantization: bool = True,
    head: str = "lm",
) -> nn.Module:
    """A model with all dropout set to `dropout`, on `device`, in float32.

    Args:
        frozen: the precision of a model of which few or no weights train. Linear weights that the files have in its
            autocast dtype are loaded as they are (`models.frozen`), which takes half the memory.
        dropout: probability of every dropout in the architecture.
        quantization_bit: 4 or 8 loads quantised weights (QLoRA, 2305.14314), which needs bitsandbytes and a GPU.
        double_quantization: with 4 bits, quantise the scales too, which saves 0.4 bits a parameter.
        head: `lm` for a causal LM, `reward` for a sequence classifier with one output; a reward head that is not in the
            files starts at 0, so the first rewards are equal.

    Raises:
        ModelError: the model cannot be loaded, or has no such head.
        ArtifactError: the folder is a checkpoint, and its weights have changed since it was written.
    """
    source = resolve_name(name)
    check_weights(source)
    loader = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    try:
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=trust_remote_code)
        _set_dropout(config, dropout)
        if head == "reward":
            config.num_labels = 1
        extra = _quantised(quantization_bit, device, twice=double_quantization)
        dtype = None if frozen is None or extra else frozen.autocast
        if dtype is None or not saved_in(source, dtype, revision):
            dtype = torch.float32
        with quiet():
            model, loading = loader.from_pretrained(
                source,
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
        raise ModelError(f"{name}: the model could not be loaded: {_reason(error)}") from error
    except SafetensorError as error:
        raise ModelError(f"{name}: its weights are damaged: {_reason(error)}") from error
    if dtype != torch.float32:
        widen(model)
    missing = {key for key in loading["missing_keys"] if head == "lm" or not key.startswith("score.")}
    if missing:  # a parameter that is in no file would be random
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ModelError(f"{name}: weights are missing from its files: {min(missing)}{more}; download or save it again")
    if len(missing) < len(loading["missing_keys"]):  # a reward head that is in no file
        for parameter in model.get_submodule("score").parameters():
            nn.init.zeros_(parameter)
    if not extra:
        model.to(device)
    return model  # type: ignore[no-any-return]


class LoadedModel(NamedTuple):
    """A frozen model with the scoring forward, the result of its probe, and the content hash of its weights."""

    model: nn.Module
    probe: Probe
    identity: str


def load_frozen(
    name: str,
    precision: Precision,
    device: torch.device,
    *,
    adapters: Sequence[str] = (),
    tokens: int = 0,
    head: str = "lm",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model for scoring and generation: merge adapters, choose its attention by a probe, fuse its layers.

    Args:
        adapters: folders that are merged in this order.
        tokens: size of the tokenizer; a smaller embedding is enlarged.
        head: as in `load_model`.

    Raises:
        ModelError: the model or an adapter cannot be loaded, or its scores of a row depend on other rows.
    """
    model: Any = load_model(
        name,
        device=device,
        frozen=None if adapters else precision,  # merged weights are rounded once, at the end, or not at all
        head=head,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    enlarge_embedding(model, tokens)
    for adapter in adapters:
        model = merge_adapter(model, adapter, task=TASKS[head])
    identity = model_hash(model)
    found = probe(model, head=head, kernels=kernels_of("auto", device), precision=precision, gradients=False)
    if found.packed:
        apply_fused(model)
    model.eval().requires_grad_(False)
    store_frozen_in(model, precision)
    return LoadedModel(model, found, identity)


def _set_dropout(config: Any, dropout: float) -> None:
    for part in {id(c): c for c in (config, config.get_text_config())}.values():
        for key in _DROPOUTS:
            if isinstance(getattr(part, key, None), int | float):
                setattr(part, key, dropout)


def check_quantisation(bits: int | None, device: torch.device) -> None:
    """Refuse `quantization_bit` on hardware that cannot use it, before anything is loaded.

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
    from transformers import BitsAndBytesConfig  # imports an optional extra

    quantised = BitsAndBytesConfig(
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=twice,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantised, "device_map": {"": device}}


def _reason(error: BaseException) -> str:
    offline = os.environ.get("HF_HUB_OFFLINE") and "connect" in str(error)
    return first_line(error) + (" (offline: HF_HUB_OFFLINE is set)" if offline else "")
