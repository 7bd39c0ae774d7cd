"""A reference whose log-probabilities are computed and stored before training; it needs no memory during training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from palate.errors import ArtifactError
from palate.models.reference.kinds import AdapterOff, Reference
from palate.models.reference.store import ReferenceStore
from palate.models.scoring.logps import TokenLogps
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
        values = [np.concatenate([self.store.get(group.content_hash) for group in batch.groups]) for batch in batches]
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
                store.put(group.content_hash, values[start:end].copy())
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
        stored = np.concatenate([store.get(group.content_hash) for group in batch.groups])
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
