"""One of several gloo processes that divide models; `test_shards.py` starts it. Its checks fail the process.

    python divided.py FOLDER...

Each FOLDER has a model; it is loaded and divided in every way that training does it.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from several import become_ranks
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

from palate.errors import ModelError
from palate.models.loading.load import load_model
from palate.models.loading.shards import Shards
from palate.models.precision import Precision
from palate.models.scoring import forward
from palate.models.scoring.head import head_of
from palate.models.tuning.trainable import add_lora, train_last_layers
from palate.models.tuning.vocabulary import embedding_modules
from palate.text.batch import pad
from tiny import random_groups

CPU = torch.device("cpu")
BF16 = Precision("bf16", torch.bfloat16)
SHARDS = Shards(
    {
        "fsdp_version": 2,
        "auto_wrap_policy": "transformer_based_wrap",
        "reshard_after_forward": True,
        "cpu_ram_efficient_loading": False,
        "mixed_precision_policy": MixedPrecisionPolicy(),
    },
    CPU,
)
# How a model is tuned before it is divided.
TUNED: dict[str, Callable[[Any], nn.Module]] = {
    "full": lambda model: model.requires_grad_(True),
    "lora": lambda model: add_lora(model, rank=3, alpha=6),
    "whole modules": lambda model: add_lora(model, rank=2, alpha=4, whole=embedding_modules(model)[:1]),
    "last layer": lambda model: train_last_layers(model, 1, ["lm_head"]),
}


def check_equal(folder: str, tuned: str) -> None:
    """Every weight, buffer and output of the divided model is that of the whole one."""
    torch.manual_seed(0)
    whole: Any = TUNED[tuned](load_model(folder, device=CPU, frozen=BF16))
    divided: Any = SHARDS.divide(whole)
    case = f"{folder}, {tuned}"
    assert isinstance(divided, FSDPModule), case
    layers = sum(isinstance(module, FSDPModule) for module in divided.modules())
    assert layers >= whole.config.get_text_config().num_hidden_layers, f"{case}: layers are gathered one by one"
    parts = dict(divided.named_parameters(remove_duplicate=False))
    for name, one in whole.named_parameters(remove_duplicate=False):
        part = parts.pop(name)
        assert isinstance(part, DTensor), case
        assert part.to_local().numel() <= -(-len(one) // dist.get_world_size()) * one.shape[1:].numel(), case
        assert part.requires_grad == one.requires_grad, case
        assert part.dtype == (torch.float32 if one.requires_grad else one.dtype), case
        assert torch.equal(part.full_tensor(), one.detach().to(part.dtype)), f"{case}: {name}"
    assert not parts, case
    for one, other in zip(whole.buffers(), divided.buffers(), strict=True):
        assert torch.equal(one, other), case
    ids = torch.arange(3, 23)[None]
    with torch.no_grad(), BF16.context(CPU):
        expected, found = (model.eval()(input_ids=ids).logits for model in (whole.float(), divided))
    assert torch.allclose(found.float(), expected.float(), atol=0.05), case
    assert all(isinstance(p, DTensor) for p in divided.parameters()), f"{case}: nothing stays gathered after a pass"


def check_refused(folder: str, tuned: str) -> None:
    with pytest.raises(ModelError, match="share a weight"):
        SHARDS.divide(TUNED[tuned](load_model(folder, device=CPU)))


def check_memory(folder: str) -> None:
    """Loading takes hardly any memory, dividing the part of each process, and a pass gathers one of the 20 layers."""
    whole = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    with Watch() as watch:
        model: Any = load_model(folder, device=CPU, frozen=BF16).requires_grad_(False)
        loaded = watch.grown
        model = SHARDS.divide(model)
        divided = watch.grown
    part = sum(p.to_local().numel() * p.element_size() for p in model.parameters())
    gathered: list[int] = []
    for module in model.modules():
        module.register_forward_pre_hook(lambda *_: gathered.append(gathered_bytes(model)))
    with torch.no_grad(), BF16.context(CPU):
        assert model(input_ids=torch.arange(3, 23)[None]).logits.isfinite().all()
    found = f"{loaded}, {divided} and {max(gathered)} for a part of {part} of {whole} bytes"
    assert part < 1.05 * whole / dist.get_world_size(), found
    assert loaded < 0.1 * whole, found
    assert divided < part + 0.1 * whole, found
    assert 0 < max(gathered) < 0.1 * whole, found


def check_scores(folder: str) -> None:
    """The head of a divided model scores in chunks, as the whole one does: equal log-probabilities and gradients."""
    batch = pad(random_groups(2, 2))
    whole: Any = load_model(folder, device=CPU).float().requires_grad_(True)
    forward.install(whole, head_of(whole))
    divided: Any = SHARDS.divide(whole)
    found = []
    with mock.patch.object(forward, "_dense", side_effect=AssertionError("all logits at once")):
        for model in (whole, divided):
            scores = model(**batch.model_inputs(), square_sums=True)
            scores.logps.sum().backward()
            found.append((scores.logps.detach(), scores.log_square_sums))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5), folder
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5), folder
    for one, part in zip(whole.parameters(), divided.parameters(), strict=True):
        assert torch.allclose(part.grad.full_tensor(), one.grad, atol=1e-5), folder


def gathered_bytes(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters() if not isinstance(p, DTensor))


class Watch(threading.Thread):
    """Measures by how much the anonymous memory of this process grows at most; a file that is mapped is not counted."""

    grown = 0

    def __enter__(self) -> Watch:
        self._before, self._done = self._anonymous(), threading.Event()
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        while not self._done.is_set():
            self.grown = max(self.grown, self._anonymous() - self._before)
            time.sleep(0.001)

    @staticmethod
    def _anonymous() -> int:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) * 1024


if __name__ == "__main__":
    become_ranks()
    dist.init_process_group("gloo")
    large, *small = sys.argv[1:]
    check_memory(large)
    for name in small:
        check_scores(name)
        for way in TUNED:
            if (Path(name).name, way) == ("gpt2", "whole modules"):  # PEFT leaves the tied head out
                check_refused(name, way)
            else:
                check_equal(name, way)
    dist.destroy_process_group()
