"""References that need no memory while the policy trains: their log-probabilities are stored before training, or their
model is on disk between evaluations.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from palate.artifacts import temporary_path, write_errors
from palate.errors import ArtifactError
from palate.models.reference.kinds import AdapterOff, PolicyAtStart, Reference, SeparateModel, swapped
from palate.models.reference.store import ReferenceStore
from palate.models.scoring.logps import TokenLogps
from palate.models.upstream import evaluating
from palate.progress import progress
from palate.text.batch import Batch
from palate.text.group_file import GroupSubset, lengths_of
from palate.text.groups import EncodedGroup

# Tolerated root mean square difference when tokens are scored again: rounding depends on the batch. In bf16 an AMX
# processor gives 0.044, and up to 0.36 for a single unlikely token; the values of other weights differ by 1 or more.
_ROUNDING = {"fp32": 2e-4, "bf16": 0.1, "fp16": 0.03}
_LARGEST = 10  # tolerated difference of a single token, in multiples of _ROUNDING
_SAMPLE = 4
_SAVE_EVERY = 60.0


class PrecomputedReference:
    """Log-probabilities from a store, filled before the first step.

    Args:
        store: has values for every group, after `fill`.
        live: the reference in memory that fills the store; `release` frees it, unless it needs no memory of its own (a
            disabled adapter).
    """

    def __init__(self, store: ReferenceStore, live: Reference) -> None:
        self.kind = f"stored {live.kind}"
        self.identity = live.identity
        self.is_start = live.is_start
        self.store = store
        self.live: Reference | None = live

    def release(self) -> None:
        if not isinstance(self.live, AdapterOff):
            self.live = None

    def logps(self, batches: Sequence[Batch]) -> list[TokenLogps]:
        values = [np.concatenate([self.store[group.content_hash] for group in batch.groups]) for batch in batches]
        return [TokenLogps(torch.from_numpy(one).to(batch.target_ids.device)) for one, batch in zip(values, batches)]

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        if self.live is None:
            raise ArtifactError(
                "the reference has stored values only and cannot generate; set reference_cache: off to keep its model"
            )
        with self.live.active() as model:
            yield model


def fill(
    store: ReferenceStore,
    live: Reference,
    groups: Sequence[EncodedGroup],
    split: Callable[[Sequence[EncodedGroup]], Iterable[Batch]],
    device: torch.device,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Score groups once without gradient, and put the values into the store.

    Args:
        split: divides groups into batches within the token budget, one after the other.
        save: called about once a minute, so that values survive if the run is killed.
    """
    saved = time.monotonic()
    with progress("reference", len(groups)) as scored:
        for batch in split(groups):
            [tokens] = live.logps([batch.to(device)])
            values = tokens.logps.cpu().numpy()
            owners = batch.group_of[batch.completion_of].numpy()
            ends = np.searchsorted(owners, np.arange(len(batch.groups)), side="right")
            start = 0
            for group, end in zip(batch.groups, ends, strict=True):
                store[group.content_hash] = values[start:end].astype(np.float32)
                start = int(end)
            scored.advance(len(batch.groups))
            if time.monotonic() - saved >= _SAVE_EVERY:
                save()
                saved = time.monotonic()


def share(groups: Sequence[EncodedGroup]) -> Sequence[EncodedGroup]:
    """This rank's share of the groups; all of them in a single process."""
    if not torch.distributed.is_initialized():
        return groups
    return groups[torch.distributed.get_rank() :: torch.distributed.get_world_size()]


def verify(
    store: ReferenceStore,
    live: Reference,
    groups: Sequence[EncodedGroup],
    split: Callable[[Sequence[EncodedGroup]], Iterable[Batch]],
    device: torch.device,
    precision: str,
) -> None:
    """Check the store by scoring a few of its groups again.

    Raises:
        ArtifactError: the values differ by more than rounding.
    """
    known = GroupSubset(groups, [number for number, group in enumerate(groups) if group.content_hash in store])
    # Spread over the dataset, so that a partly stale file is found. Includes the longest group, because windows and
    # rotary positions only matter at length.
    sample = [*known[:: max(1, len(known) // _SAMPLE)][:_SAMPLE]]
    if known:
        sample.append(known[int(lengths_of(known).longest.argmax())])
    found = []
    for batch in split(sample):
        [tokens] = live.logps([batch.to(device)])
        stored = np.concatenate([store[group.content_hash] for group in batch.groups])
        found.append((np.abs(tokens.logps.cpu().numpy() - stored), batch.groups[0].id))
    if not found:
        return
    mean = float(np.sqrt(np.square(np.concatenate([differences for differences, _ in found])).mean()))
    maxima = [float(differences.max(initial=0.0)) for differences, _ in found]
    worst = int(np.argmax(maxima))  # a NaN counts as the maximum
    if not (mean <= _ROUNDING[precision] and maxima[worst] <= _LARGEST * _ROUNDING[precision]):
        raise ArtifactError(
            f"{store.path}: stored reference values differ from the reference by {maxima[worst]:.3g} in "
            f"log-probability (row {found[worst][1]}); delete the file, it is rebuilt"
        )


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
    live = reference.live if isinstance(reference, PrecomputedReference) else reference
    assert live is not None  # `release` was not called yet
    if isinstance(live, PolicyAtStart):
        # `temporary_path` gives a name that the next run in the directory deletes if a kill leaves the file behind.
        file = temporary_path(folder / "reference.safetensors")
        start = {name: p.detach().cpu().contiguous() for name, p in live.model.named_parameters() if p.requires_grad}
        with write_errors(file):
            save_file(start, file)
        return OffloadedModel(partial(_start_from, file, live.model), partial(file.unlink, missing_ok=True))
    if isinstance(reference, PrecomputedReference) and isinstance(live, SeparateModel) and live.reload is not None:
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
