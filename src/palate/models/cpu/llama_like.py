"""Which models `models.generation.llama_step` may read without calling their modules: those made of Llama's parts.

A trial on a few tokens shows what a model computes there, and nothing of what it does at longer lengths or with other
numbers. So what may depend on these is read here: the configuration, and the names that a forward of the model's code
uses. A twist that needs a name which Llama's forward does not use (a clamp, a temperature that grows with the
position, layers without positions) leaves the model its own forward.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP

from palate.models.cpu.layers import ATTENTION, MLP, PARTS, FusedDecoderLayer, untouched_norm
from palate.models.cpu.projection import hooked, projection_of

# Kinds of rotary positions whose angles depend on nothing but the position.
_FIXED_ROTATIONS = {"default", "linear", "llama3", "yarn"}


def base_of(model: Any) -> Any:
    """The causal LM itself, without PEFT around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def recognised(model: Any) -> bool:
    """Whether the model has the parts of Llama's, on a CPU, with nothing hung between them."""
    base = base_of(model)
    trunk = getattr(base, "model", None)
    if trunk is None or not {"model", "lm_head"} <= set(base._modules):
        return False
    if set(trunk._modules) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return False
    if any(_has_hooks(module) for module in (model, base)) or any(map(hooked, trunk.modules())):
        return False
    if not all(map(_plain, base.parameters())):
        return False
    if type(trunk.embed_tokens) is not nn.Embedding or projection_of(base.lm_head) is None:
        return False
    if not _sees_all(base.config.get_text_config()) or not untouched_norm(trunk.norm):
        return False
    kind = getattr(trunk.rotary_emb, "rope_type", None)
    # Some architectures have a kind of rotation for each kind of layer.
    if not isinstance(kind, str) or kind not in _FIXED_ROTATIONS:
        return False
    return len(trunk.layers) > 0 and all(map(_has_the_parts, trunk.layers))


def _plain(parameter: nn.Parameter) -> bool:
    """Whether a parameter holds its numbers itself: no quantised or distributed tensor."""
    fits = parameter.device.type == "cpu" and parameter.dtype in (torch.float32, torch.bfloat16)
    return fits and type(parameter) is nn.Parameter


def _has_the_parts(layer: Any) -> bool:
    if set(layer._modules) != PARTS:
        return False
    attention, mlp = layer.self_attn, layer.mlp
    for module, names, more in ((attention, ATTENTION, set()), (mlp, MLP, {"act_fn"})):
        own = [name for name, _ in module.named_parameters(recurse=False)]
        if own or not set(names) <= set(module._modules) <= {*names, *more}:
            return False
        if any(projection_of(getattr(module, name)) is None for name in names):
            return False
    if not all(map(untouched_norm, (layer.input_layernorm, layer.post_attention_layernorm))):
        return False
    if not (isinstance(getattr(attention, "scaling", None), float) and _is_silu(getattr(mlp, "act_fn", None))):
        return False
    alike = _names(layer) <= _LAYER_NAMES and _names(attention) <= _ATTENTION_NAMES and _names(mlp) <= _MLP_NAMES
    return alike and isinstance(getattr(attention, "head_dim", None), int)


def _sees_all(config: Any) -> bool:
    """Whether every token sees its whole past, and logits have no ceiling that small ones do not reach."""
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    ceilings = (value for name, value in vars(config).items() if "softcap" in name or "soft_cap" in name)
    kinds = getattr(config, "layer_types", None) or []
    return not any(windows) and not any(ceilings) and all(kind == "full_attention" for kind in kinds)


def _is_silu(activation: Any) -> bool:
    x = torch.linspace(-40.0, 40.0, 81)
    return callable(activation) and torch.allclose(activation(x), F.silu(x))


def _names(module: nn.Module) -> set[str]:
    """What the forward of the module's class calls and reads; a fused layer's is that of the class it was made of."""
    own = next(kind for kind in type(module).__mro__ if not issubclass(kind, FusedDecoderLayer))
    return _names_in(own)


def _names_in(kind: Any) -> set[str]:
    return set(inspect.unwrap(kind.forward).__code__.co_names)


# Copies of Llama's attention differ in that they hand a window on, which `_sees_all` asks the configuration for.
_ATTENTION_NAMES = _names_in(LlamaAttention) | {"sliding_window", "getattr"}
_LAYER_NAMES = _names_in(LlamaDecoderLayer)
_MLP_NAMES = _names_in(LlamaMLP)


def _has_hooks(module: Any) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
