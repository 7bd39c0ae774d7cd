"""Norms, gated MLP and rotary positions by the Triton kernels of liger-kernel (2410.10989): `use_liger_kernel`.

Its losses are not used: log-probabilities come from `models.scoring`. The kernels are put into the loaded model before
anything wraps it, and kept only if outputs and gradients stay those of the model's own code. Layers with them keep
their original forward on a CPU (`models.cpu.layers` recognises plain norms only).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from palate.models.frozen import float_products
from palate.models.precision import FP32, Precision
from palate.models.upstream import evaluating, first_line, quiet

_PARTS = {"rope": True, "rms_norm": True, "layer_norm": True, "swiglu": True, "geglu": True}
_LOSSES = {"cross_entropy": False, "fused_linear_cross_entropy": False}
# The function of a model's module that rotates queries and keys.
_ROTARY = "apply_rotary_pos_emb"
# Of a tensor's norm.
_EXACT, _ROUNDED = 1e-4, 0.03


def apply_liger(model: Any, precision: Precision, device: torch.device) -> str:
    """Use liger's kernels in a loaded model where they are equal to its own code; returns a line for the user."""
    if importlib.util.find_spec("liger_kernel") is None:
        return "use_liger_kernel has no effect: it needs the package liger-kernel: pip install liger-kernel"
    if not _runs_on(device):
        return f"use_liger_kernel has no effect: its kernels need a GPU, this run is on {device.type}"
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    formats = [FP32, *([] if precision.autocast is None else [precision])]
    expected = [_outputs(model, one, device) for one in formats]
    with _undone_if_unequal(model) as problem:
        try:
            with quiet():
                _apply_liger_kernel_to_instance(model, **_PARTS, **_LOSSES)
            found = [_outputs(model, one, device) for one in formats]
            quantised = getattr(model, "is_quantized", False)
            problem.extend(_differences(found, expected, formats, quantised=quantised))
        except Exception as error:  # errors of Triton's compiler have no other base
            problem.append(f"{type(error).__name__}: {first_line(error)}")
        if not problem and not any("forward" in vars(module) for module in model.modules()):
            problem.append(f"it has no kernels for {model.config.model_type}")
    if problem:
        return f"use_liger_kernel has no effect: {problem[0]}"
    version = importlib.metadata.version("liger-kernel")
    return f"norms, gated MLP and rotary positions: liger-kernel {version}"


def _runs_on(device: torch.device) -> bool:
    """Triton's interpreter runs the kernels on a CPU, slowly, for tests."""
    return device.type != "cpu" or os.environ.get("TRITON_INTERPRET") == "1"


@contextlib.contextmanager
def _undone_if_unequal(model: Any) -> Iterator[list[str]]:
    """Inside, liger changes the model and its module; if the list gets a problem, everything is put back.

    liger replaces classes in the model's module too, which would change models that are made later; these are always
    put back. The rotary function is looked up there at every call, so it stays, for tensors on a GPU.
    """
    own = sys.modules[type(model).__module__]
    names, modules = dict(vars(own)), [(module, dict(vars(module))) for module in model.modules()]
    problem: list[str] = []
    try:
        yield problem
    finally:
        rotary = vars(own).get(_ROTARY)
        vars(own).update(names)
        if problem:
            for module, attributes in modules:
                vars(module).clear()
                vars(module).update(attributes)
        elif rotary is not names.get(_ROTARY):
            setattr(own, _ROTARY, _by_device(rotary, names[_ROTARY]))


def _by_device(liger: Any, original: Any) -> Callable[..., Any]:
    def rotated(q: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (liger if _runs_on(q.device) else original)(q, *args, **kwargs)

    return rotated


def _outputs(model: Any, precision: Precision, device: torch.device) -> list[Tensor]:
    """Hidden states of a few random tokens, and their gradients to the embedded tokens and to all norms' weights."""
    generator = torch.Generator().manual_seed(0)
    embedding = model.get_input_embeddings().weight
    ids = torch.randint(len(embedding), (2, 12), generator=generator).to(device)
    embedded = embedding.detach()[ids].requires_grad_(True)
    norms = [p for name, p in model.named_parameters() if p.dim() == 1 and "norm" in name and p.requires_grad]
    with evaluating(model), precision.context(device), float_products(), torch.enable_grad():
        hidden = model.base_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
        upstream = torch.randn(hidden.shape, generator=generator).to(hidden)
        gradients = torch.autograd.grad(hidden, [embedded, *norms], upstream)
    return [tensor.detach().float() for tensor in (hidden, *gradients)]


def _differences(
    found: Sequence[Sequence[Tensor]],
    expected: Sequence[Sequence[Tensor]],
    formats: Sequence[Precision],
    *,
    quantised: bool,
) -> Iterator[str]:
    """What differs too much; quantised layers round as in half precision, also in float32."""
    for ours, original, precision in zip(found, expected, formats, strict=True):
        limit = _EXACT if precision.autocast is None and not quantised else _ROUNDED
        for number, (one, other) in enumerate(zip(ours, original, strict=True)):
            share = float((one - other).norm()) / max(float(other.norm()), 1e-12)
            if not share <= limit:
                what = "outputs" if number == 0 else "gradients"
                yield f"its {what} differ by {share:.2%} from the model's own in {precision.name}"
