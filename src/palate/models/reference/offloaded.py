"""References offloaded to disk between evaluations, so that they need no memory while the policy trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from palate.artifacts import temporary_path, write_errors
from palate.models.reference.kinds import PolicyAtStart, Reference, SeparateModel, evaluating, swapped
from palate.models.reference.precomputed import StoredReference


@dataclass(frozen=True, slots=True)
class OffloadedModel:
    """A reference model that can be loaded at any time.

    Attributes:
        active: a context with a model that scores and generates like the reference.
        close: deletes its file, if there is one.
    """

    active: Callable[[], contextlib.AbstractContextManager[nn.Module]]
    close: Callable[[], None] = lambda: None


def offload(reference: Reference, folder: Path) -> OffloadedModel:
    """The reference as a model that can score and generate at any time during the run.

    Call it before the first step and before the reference's `release`.

    Args:
        folder: where the starting weights are written, if needed; `close` deletes the file.
    """
    live = reference.live if isinstance(reference, StoredReference) else reference
    assert live is not None  # `release` was not called yet
    if isinstance(live, PolicyAtStart):
        # `temporary_path` gives a name that the next run in the directory deletes if a kill leaves the file behind.
        file = temporary_path(folder / "reference.safetensors")
        start = {name: p.detach().cpu().contiguous() for name, p in live.model.named_parameters() if p.requires_grad}
        with write_errors(file):
            save_file(start, file)
        return OffloadedModel(partial(_start_from, file, live.model), partial(file.unlink, missing_ok=True))
    if isinstance(reference, StoredReference) and isinstance(live, SeparateModel) and live.reload is not None:
        return OffloadedModel(partial(_reloaded, live.reload))
    return OffloadedModel(live.active)


@contextlib.contextmanager
def _start_from(file: Path, policy: nn.Module) -> Iterator[nn.Module]:
    """A context in which the policy has its starting weights; the current weights stay in memory as well."""
    with swapped(policy, load_file(file)), evaluating(policy):
        yield policy


@contextlib.contextmanager
def _reloaded(reload: Callable[[], nn.Module]) -> Iterator[nn.Module]:
    with torch.no_grad():
        yield reload()
