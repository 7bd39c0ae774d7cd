"""`use_liger_kernel`: kernels that equal the model's own code are taken, others are undone, and the reason is said.

Run once on a CPU, by Triton's interpreter, with `TRITON_INTERPRET=1` in an environment with triton and liger-kernel.
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import pytest
import torch

from palate.models.cpu.layers import FusedDecoderLayer, apply_fused
from palate.models.precision import FP32
from palate.models.probe.probe import probe
from palate.models.scoring.logps import per_completion
from palate.models.tuning import liger
from palate.models.tuning.liger import apply_liger
from palate.models.tuning.trainable import add_lora
from palate.text.batch import pack
from tiny import random_groups, tiny_model

CPU = torch.device("cpu")
RUNS = importlib.util.find_spec("liger_kernel") is not None and (
    torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
runs = pytest.mark.skipif(not RUNS, reason="needs liger-kernel, and a GPU or Triton's interpreter (TRITON_INTERPRET=1)")


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Triton's interpreter lacks: scalars of Python's floats, and CUDA's libdevice."""
    if os.environ.get("TRITON_INTERPRET") != "1" or not RUNS:
        return
    import triton.language as tl
    from triton.runtime import interpreter

    stock = interpreter._implicit_cvt

    def converted(argument: Any) -> Any:
        if not isinstance(argument, float):
            return stock(argument)
        return tl.tensor(interpreter.TensorHandle(np.array([argument], np.float32), tl.float32), tl.float32)

    monkeypatch.setattr(interpreter, "_implicit_cvt", converted)
    monkeypatch.setattr("liger_kernel.ops.rms_norm.rsqrt", lambda x: tl.rsqrt(x))
    monkeypatch.setattr("liger_kernel.ops.geglu.tanh", lambda x: 1 - 2 / (tl.exp(2 * x) + 1))


def scores(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A loss of two packed groups and its gradients of all trained weights."""
    batch = pack(random_groups(2, prompt=(4, 6), answer=(2, 4))).to(DEVICE)
    sums = per_completion(model(**batch.model_inputs()), batch).sums
    loss = torch.nn.functional.softplus(sums[1::2] - sums[::2]).mean()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return loss.detach(), list(torch.autograd.grad(loss, trained))


@runs
@pytest.mark.parametrize(("kind", "lora"), [("llama", False), ("llama", True), ("gemma2", False)])
def test_losses_and_gradients_are_those_of_the_model(kind: str, lora: bool) -> None:
    results = []
    for used in (False, True):
        model: Any = tiny_model(kind).to(DEVICE)
        if used:
            assert apply_liger(model, FP32, DEVICE).startswith("norms, gated MLP and rotary positions: liger-kernel")
            assert "Liger" in repr(model.model.norm)
        assert probe(model).packed
        model = model.train()
        results.append(scores(add_lora(model, rank=4, alpha=8) if lora else model))
    (loss, gradients), (ours, mine) = results
    assert float((ours - loss).abs()) < 1e-4 * float(loss.abs())
    assert len(gradients) == len(mine)
    for one, other in zip(gradients, mine, strict=True):
        assert float((one - other).norm()) <= 1e-3 * float(one.norm()) + 1e-7


@runs
def test_other_models_keep_their_own_code() -> None:
    model = tiny_model().to(DEVICE)
    assert apply_liger(model, FP32, DEVICE).startswith("norms")
    assert apply_fused(model) == []  # on a CPU these layers would not run liger's kernels
    later = tiny_model()
    assert "Liger" not in repr(later)
    assert apply_fused(later) if DEVICE.type == "cpu" else True
    assert all(isinstance(layer, FusedDecoderLayer) for layer in later.model.layers) or DEVICE.type != "cpu"


@runs
def test_unequal_kernels_are_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    from liger_kernel.transformers import rms_norm

    stock = rms_norm.LigerRMSNorm.forward
    monkeypatch.setattr(rms_norm.LigerRMSNorm, "forward", lambda self, x: 1.01 * stock(self, x))
    model = tiny_model().to(DEVICE)
    expected = liger._outputs(model, FP32, DEVICE)
    line = apply_liger(model, FP32, DEVICE)
    assert line.startswith("use_liger_kernel has no effect: its outputs differ by")
    for one, other in zip(liger._outputs(model, FP32, DEVICE), expected, strict=True):
        assert torch.equal(one, other)


@runs
def test_an_architecture_without_kernels_is_named() -> None:
    assert apply_liger(tiny_model("gpt2").to(DEVICE), FP32, DEVICE) == (
        "use_liger_kernel has no effect: it has no kernels for gpt2"
    )


def test_what_it_needs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    model = tiny_model()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert apply_liger(model, FP32, CPU).endswith("it needs the package liger-kernel: pip install liger-kernel")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert apply_liger(model, FP32, CPU).endswith("its kernels need a GPU, this run is on cpu")
    assert apply_fused(model)


def test_a_quantised_model_may_differ_by_the_rounding_of_its_layers() -> None:
    exact, rounded = [[torch.ones(4)]], [[torch.full((4,), 1.003)]]
    assert list(liger._differences(exact, exact, [FP32], quantised=False)) == []
    (said,) = liger._differences(rounded, exact, [FP32], quantised=False)
    assert said == "its outputs differ by 0.30% from the model's own in fp32"
    assert list(liger._differences(rounded, exact, [FP32], quantised=True)) == []
    assert list(liger._differences([[torch.full((4,), 1.1)]], exact, [FP32], quantised=True))
