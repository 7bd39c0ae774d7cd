"""A model's identity: a hash of its weights and of the config keys that affect outputs, not of its path or name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from palate.artifacts import json_hash

# Keys of a model's or an adapter's config that change no output in evaluation mode. Every other key is hashed: an
# unknown key can only make equal models different, which costs one reference pass, and never different ones equal.
_NOT_COMPUTING = frozenset(
    {
        # names and versions
        "_name_or_path",
        "_commit_hash",
        "architectures",  # the loaded model's class is hashed instead
        "base_model_name_or_path",
        "name_or_path",
        "peft_version",
        "revision",
        "transformers_version",
        # a property of the weights, hashed with them
        "dtype",
        "torch_dtype",
        # labels and token ids, which only generation and losses use
        "bos_token_id",
        "decoder_start_token_id",
        "eos_token_id",
        "id2label",
        "label2id",
        "num_labels",
        "pad_token_id",
        "problem_type",
        "sep_token_id",
        # initial weights, form of the outputs, training only
        "inference_mode",
        "init_lora_weights",
        "initializer_range",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "task_type",
        "use_cache",
    }
)


_HALVES = (torch.bfloat16, torch.float16)


def weights_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """16 hexadecimal digits over names, dtypes, shapes and bytes, independent of the mapping's order.

    A tensor of 16 bits has the hash of its values in float32: the dtype that holds frozen weights changes nothing.
    Tied tensors are hashed under each of their names, so tying alone changes nothing.
    """
    digest = hashlib.sha256()
    seen: dict[tuple[int, torch.Size], bytes] = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        where = (tensor.data_ptr(), tensor.shape)
        if where not in seen or tensor.data_ptr() == 0:
            wide = tensor.float() if tensor.dtype in _HALVES else tensor
            plain = wide.to("cpu").contiguous().view(-1).view(torch.uint8).numpy()
            seen[where] = hashlib.sha256(plain.data).digest()
        dtype = torch.float32 if tensor.dtype in _HALVES else tensor.dtype
        digest.update(f"{name}|{dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(seen[where])
    return digest.hexdigest()[:16]


def computing(config: Any) -> Any:
    """The entries of a config that may change a model's outputs, at every depth, in JSON types.

    Without dropout, because a reference scores without it.
    """
    if isinstance(config, Mapping):
        kept = {str(key): value for key, value in config.items()}
        return {
            key: computing(value)
            for key, value in sorted(kept.items())
            if key not in _NOT_COMPUTING and "dropout" not in key and not key.endswith("_pdrop")
        }
    if isinstance(config, set | frozenset):
        return sorted(map(str, config))
    if isinstance(config, list | tuple):
        return [computing(item) for item in config]
    return config if isinstance(config, int | float | str | None) else str(config)


def _digest(*parts: Any) -> str:
    return json_hash(parts)[:16]


def model_hash(model: nn.Module) -> str:
    """16 hexadecimal digits over the class, all parameters and persistent buffers, and the config (`computing`).

    Models with equal weights but another sliding window, rotary positions or norm epsilon score differently, so they
    have different hashes.
    """
    config: Any = getattr(model, "config", None)
    facts = computing(config.to_dict()) if config is not None else None
    return _digest(type(model).__name__, facts, weights_hash(model.state_dict()))


def adapter_hash(model: Any) -> str:
    """16 hexadecimal digits over the weights of a PEFT model's adapters and their configs (rank, α, scaling)."""
    weights = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    configs = {name: computing(config.to_dict()) for name, config in model.peft_config.items()}
    return _digest(configs, weights_hash(weights))
