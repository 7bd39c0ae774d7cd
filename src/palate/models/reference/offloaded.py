"""References that wait on disk: what has no stored values can still be scored, and in between nothing is in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from palate.artifacts import temporary_path, write_errors
from palate.models.reference.kinds import PolicyAtStart, Reference, SeparateModel
from palate.models.reference.stored import StoredReference


class Answering(Protocol):
    """What can stand in for the reference, with its own weights."""

    def active(self) -> contextlib.AbstractContextManager[nn.Module]:
        """A model that scores and generates as the reference does, inside the context."""
        ...

    def close(self) -> None:
        """Delete what it left on disk."""
        ...


class Present:
    """A reference that is there all the time."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference

    def active(self) -> contextlib.AbstractContextManager[nn.Module]:
        return self._reference.active()

    def close(self) -> None:
        """Nothing was left on disk."""


class StartOnDisk:
    """The policy as it started: a file of what trains, in place of a copy in memory.

    Inside `active` the live values stand aside in memory. That is no more than a training step takes, as long as no
    gradients are held, which is so in an evaluation.
    """

    def __init__(self, policy: nn.Module, folder: Path) -> None:
        self._policy = policy
        # A name that the next claim of the directory clears away if a kill leaves the file behind.
        self._file = temporary_path(folder / "reference.safetensors")
        start = {name: p.detach().cpu().contiguous() for name, p in policy.named_parameters() if p.requires_grad}
        with write_errors(self._file):
            save_file(start, self._file)

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        parameters = dict(self._policy.named_parameters())
        start = load_file(self._file)
        live = {name: parameters[name].data for name in start}
        training = self._policy.training
        try:
            for name, value in start.items():
                parameters[name].data = value.to(live[name].device)
            yield self._policy.eval()
        finally:
            for name, data in live.items():
                parameters[name].data = data
            self._policy.train(training)

    def close(self) -> None:
        self._file.unlink(missing_ok=True)


class Reloaded:
    """A separate model, read again from where it came from."""

    def __init__(self, reference: SeparateModel) -> None:
        assert reference.reload is not None
        self._reload = reference.reload

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        with torch.no_grad():
            yield self._reload()

    def close(self) -> None:
        """Nothing was left on disk."""


def parked(reference: Reference, folder: Path) -> Answering:
    """The reference, able to answer and to score at any time; called before the first step, and before `release`.

    Args:
        reference: of any kind; one of stored values is made to answer by what filled it.
        folder: where a file of the starting weights may lie while the run lasts.
    """
    live = reference.live if isinstance(reference, StoredReference) else reference
    assert live is not None
    if isinstance(live, PolicyAtStart):
        return StartOnDisk(live.policy, folder)
    if isinstance(reference, StoredReference) and isinstance(live, SeparateModel) and live.reload is not None:
        return Reloaded(live)
    return Present(live)
