"""Weights that do not train, stored in the dtype that matrix products use, where that loses nothing.

Under autocast a linear layer casts its weight to that dtype at every use, so results are bit-identical. Embeddings,
norms, weights tied to an embedding and scalar heads are float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from palate.models.precision import Precision

# As safetensors calls them.
_FORMATS = {torch.bfloat16: "BF16", torch.float16: "F16"}
_FLOATS = ("F64", "F32", "F16", "BF16")
# Computed outside autocast (`models.scoring.rewards`, `models.scoring.value_head`).
_SCALAR_HEADS = ("score", "value_head")


def saved_in(source: str, dtype: torch.dtype, revision: str | None = None) -> bool:
    """Whether all floating-point weights of a model's safetensors files have this dtype; a hub model is downloaded."""
    files = _weight_files(source, revision)
    for path in files:
        with safe_open(path, framework="pt") as tensors:
            found = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
        if found & set(_FLOATS) != {_FORMATS.get(dtype)}:
            return False
    return bool(files)


def _weight_files(source: str, revision: str | None) -> list[str]:
    quiet: dict[str, Any] = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    whole = cached_file(source, SAFE_WEIGHTS_NAME, **quiet)
    if whole is not None:
        return [whole]
    index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, **quiet)
    return [] if index is None else list(get_checkpoint_shard_files(source, index, revision=revision)[0])


def widen(model: Any) -> None:
    """Make everything but linear weights float32 in a model that was loaded in 16 bits from files in 16 bits."""
    linear = {id(parameter) for parameter in linear_weights(model)}
    for parameter in model.parameters():
        if id(parameter) not in linear and parameter.dtype in _FORMATS:
            parameter.data = parameter.data.float()
    saved = model.state_dict().keys()
    computed = [name for name, buffer in model.named_buffers() if buffer.dtype in _FORMATS and name not in saved]
    if computed:  # such as Gemma's embedding scale: rounded when the model was made
        with init_empty_weights(include_buffers=False):
            exact = dict(type(model)._from_config(model.config, dtype=torch.float32).named_buffers())
    for name, buffer in model.named_buffers():
        if buffer.dtype in _FORMATS:
            buffer.data = exact[name].to(buffer.device) if name in computed else buffer.data.float()
    for config in (model.config, model.config.get_text_config()):
        config.dtype = torch.float32


def linear_weights(model: nn.Module) -> list[nn.Parameter]:
    """Weights and biases that only plain linear layers use, without scalar heads: autocast casts them at every use."""
    linear: dict[int, nn.Parameter] = {}
    other: set[int] = set()
    for name, module in model.named_modules():
        plain = type(module) is nn.Linear and name.rpartition(".")[2] not in _SCALAR_HEADS
        for parameter in module.parameters(recurse=False):
            if plain:
                linear[id(parameter)] = parameter
            else:
                other.add(id(parameter))
    return [parameter for key, parameter in linear.items() if key not in other]


def store_frozen_in(model: nn.Module, precision: Precision) -> None:
    """Store frozen linear weights in the autocast dtype if that loses nothing."""
    if precision.autocast is None:
        return
    for parameter in linear_weights(model):
        if not parameter.requires_grad and parameter.dtype == torch.float32:
            small = parameter.data.to(precision.autocast)
            if torch.equal(small.float(), parameter.data):
                parameter.data = small


@contextlib.contextmanager
def float_products() -> Iterator[None]:
    """Inside, outside autocast, a float32 input of a linear layer with a 16-bit weight is multiplied in float32.

    The checks at load compare layers in float32. One layer's weight at a time is cast, forward and backward; the values
    are those of a model loaded in float32.
    """
    with _FloatProducts():
        yield


class _FloatProducts(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        mixed = func is F.linear and not kwargs and args[0].dtype == torch.float32 and args[1].dtype in _FORMATS
        if mixed and not torch.is_autocast_enabled(args[0].device.type):
            return _FrozenProduct.apply(*args, *(None,) * (3 - len(args)))  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))


class _FrozenProduct(torch.autograd.Function):
    """x [.., in] → x Wᵀ + b [.., out] in float32; W [out, in] and b [out] have 16 bits and get no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return F.linear(x, weight.float(), None if bias is None else bias.float())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad @ ctx.saved_tensors[0].float(), None, None
