"""Recognises models that compute exactly as Llama, which palate decodes without their modules (`generation.local`).

A test on a few tokens cannot show how a model behaves at greater lengths or for other values. So the configuration is
checked here, and the names that the code of each forward uses. A model whose forward uses a name that Llama's does not
(for a clamp, a temperature that grows with the position, layers without positions) keeps its own forward.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP

from palate.models.cpu.layers import FusedDecoderLayer, has_llama_parts, plain_norm
from palate.models.cpu.projection import hooked, projection_of
from palate.models.upstream import base_of

# Kinds of rotary positions (2104.09864) whose angles depend on the position only.
_FIXED_ROTATIONS = {"default", "linear", "llama3", "yarn"}


def recognised(model: Any) -> bool:
    """Whether the model consists of Llama's parts, on a CPU, without hooks between them."""
    base = base_of(model)
    decoder = getattr(base, "model", None)
    if decoder is None or not {"model", "lm_head"} <= set(base._modules):
        return False
    if set(decoder._modules) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return False
    # `models.scoring.forward` has replaced the causal LM's own forward, so only its hooks are checked.
    if any(module._forward_hooks or module._forward_pre_hooks for module in (model, base)):
        return False
    if any(map(hooked, decoder.modules())):
        return False
    if not all(map(_plain, base.parameters())):
        return False
    if type(decoder.embed_tokens) is not nn.Embedding or projection_of(base.lm_head) is None:
        return False
    if not _has_full_attention(base.config.get_text_config()) or not plain_norm(decoder.norm):
        return False
    kind = getattr(decoder.rotary_emb, "rope_type", None)
    # Some architectures have one kind of rotation per kind of layer.
    if not isinstance(kind, str) or kind not in _FIXED_ROTATIONS:
        return False
    return len(decoder.layers) > 0 and all(map(_computes_as_llama, decoder.layers))


def _plain(parameter: nn.Parameter) -> bool:
    """Whether a parameter is an ordinary tensor, not a quantised or distributed one."""
    fits = parameter.device.type == "cpu" and parameter.dtype in (torch.float32, torch.bfloat16)
    return fits and type(parameter) is nn.Parameter


def _computes_as_llama(layer: Any) -> bool:
    """Whether the layer has Llama's parts, and the code of its forward uses only names that Llama's uses."""
    if not has_llama_parts(layer) or not _is_silu(getattr(layer.mlp, "act_fn", None)):
        return False
    attention, mlp = layer.self_attn, layer.mlp
    return _names(layer) <= _LAYER_NAMES and _names(attention) <= _ATTENTION_NAMES and _names(mlp) <= _MLP_NAMES


def _has_full_attention(config: Any) -> bool:
    """Whether every token sees its whole past, and neither scores nor logits are capped."""
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    caps = (value for name, value in vars(config).items() if "softcap" in name or "soft_cap" in name)
    kinds = getattr(config, "layer_types", None) or []
    return not any(windows) and not any(caps) and all(kind == "full_attention" for kind in kinds)


def _is_silu(activation: Any) -> bool:
    x = torch.linspace(-40.0, 40.0, 81)
    return callable(activation) and torch.allclose(activation(x), F.silu(x))


def _names(module: nn.Module) -> set[str]:
    """The names used by the forward of the module's class; for a fused layer, of its stock class."""
    own = next(kind for kind in type(module).__mro__ if not issubclass(kind, FusedDecoderLayer))
    return _names_in(own)


def _names_in(kind: Any) -> set[str]:
    return set(inspect.unwrap(kind.forward).__code__.co_names)


# Other architectures' copies of Llama's attention may also pass a window, which `_has_full_attention` checks.
_ATTENTION_NAMES = _names_in(LlamaAttention) | {"sliding_window", "getattr"}
_LAYER_NAMES = _names_in(LlamaDecoderLayer)
_MLP_NAMES = _names_in(LlamaMLP)
