"""A micro-batch never waits for the device: all of it runs on PyTorch's meta device, which has no values to wait for.

Everything that a GPU would have to finish first (`.item()`, a comparison, a mask as an index) raises there. With it the
variable-length kernel of this PyTorch is called for real, forward and backward: its arguments, shapes and dtypes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from palate.models.attention.tree import TREE
from palate.models.attention.varlen import VARLEN
from palate.models.scoring.forward import install
from palate.models.scoring.head import head_of
from palate.models.scoring.logps import TokenLogps
from palate.text.batch import Batch, pack
from palate.training.meters import Meter
from palate.training.scoring import Scoring
from tiny import method_of, random_groups, tiny_model

META = torch.device("meta")


class Same:
    """A reference: the policy itself, without gradient."""

    kind, identity, is_start = "same", "same", True

    def __init__(self, model: Any) -> None:
        self.model = model

    def logps(self, batches: list[Batch]) -> list[TokenLogps]:
        with torch.no_grad():
            return [self.model(**batch.model_inputs()) for batch in batches]


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch refuses to be asked for the autocast of the meta device."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


@pytest.mark.parametrize(
    ("kind", "kernel", "checkpointing", "loss"),
    [
        ("llama", VARLEN, False, "sigmoid"),
        ("mistral", VARLEN, True, "sigmoid"),
        ("llama", TREE, True, "ipo"),
        ("mistral", TREE, False, "orpo"),
        ("llama", VARLEN, False, "discopop"),
    ],
)
def test_no_micro_batch_waits(kind: str, kernel: str, checkpointing: bool, loss: str) -> None:
    model = tiny_model(kind)
    install(model, head_of(model))
    model.set_attn_implementation(kernel)
    model.to(META, torch.bfloat16).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    method = method_of("dpo", pref_loss=loss)
    scoring = Scoring(method, Same(model) if method.traits.needs_reference else None, None, None, None)  # type: ignore[arg-type]
    batch = pack(random_groups(3)).to(META)
    found = scoring.loss(model, batch, *scoring.references([batch]))
    meter = Meter(META)
    meter.add({"loss": found.output.loss, **found.output.metrics}, found.weights, found.output.weights)
    (found.output.loss * found.weights).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):  # the means are the first to wait
        meter.means()
