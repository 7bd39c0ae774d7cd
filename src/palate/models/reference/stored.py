"""A reference whose answers were computed once and kept: nothing of it is in memory while the policy trains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from palate.errors import ArtifactError
from palate.models.casts import reuse_casts
from palate.models.reference.kinds import AdapterOff, Reference
from palate.models.reference.store import ReferenceStore
from palate.models.score import TokenLogps
from palate.progress import progress
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup

# A stored value may differ from a new one by how groups met in a batch: rounding, far below what a wrong row shows.
_TOLERANCE = {"fp32": 1e-3, "bf16": 0.25, "fp16": 0.1}
_SAMPLE = 4
_SAVE_EVERY = 60.0


class StoredReference:
    """Log-probabilities from a store, filled before the first step.

    Args:
        store: will be given values for every group that is asked for (`fill`).
        live: the reference that fills it; dropped by `release`, unless it costs nothing (a disabled adapter).
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
        return [self._stored(batch) for batch in batches]

    def _stored(self, batch: Batch) -> TokenLogps:
        values = np.concatenate([self.store.get(group.content_hash) for group in batch.groups])
        return TokenLogps(torch.from_numpy(values).to(batch.target_ids.device))

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        if self.live is None:
            raise ArtifactError(
                "the reference is stored values only and cannot generate; reference_cache: off keeps it"
            )
        with self.live.active() as model:
            yield model


def fill(
    store: ReferenceStore,
    live: Reference,
    groups: Sequence[EncodedGroup],
    split: Callable[[Sequence[EncodedGroup]], list[Batch]],
    device: torch.device,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Score groups in one pass without gradient, and put their values into the store.

    Args:
        live: the reference, in memory.
        split: groups into batches within the token budget.
        save: called about once a minute, so that a killed run keeps what was scored.
    """
    saved = time.monotonic()
    with reuse_casts(), progress("reference", len(groups)) as scored:
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
    """This rank's part of the groups; all of them in a single process."""
    if not torch.distributed.is_initialized():
        return groups
    return groups[torch.distributed.get_rank() :: torch.distributed.get_world_size()]


def verify(
    store: ReferenceStore,
    live: Reference,
    groups: Sequence[EncodedGroup],
    split: Callable[[Sequence[EncodedGroup]], list[Batch]],
    device: torch.device,
    precision: str,
) -> None:
    """Score a few stored groups again.

    Raises:
        ArtifactError: the values differ by more than rounding.
    """
    known = [group for group in groups if group.content_hash in store]
    # Spread over the dataset: a file that went stale in part should not pass by luck. The longest group is among them,
    # because windows and rotary positions differ at length only.
    sample = known[:: max(1, len(known) // _SAMPLE)][:_SAMPLE]
    if known:
        sample = [*sample, max(known, key=lambda group: group.longest_row)]
    for batch in split(sample):
        [tokens] = live.logps([batch.to(device)])
        stored = np.concatenate([store.get(group.content_hash) for group in batch.groups])
        difference = float(np.abs(tokens.logps.cpu().numpy() - stored).max(initial=0.0))
        if not difference <= _TOLERANCE[precision]:
            raise ArtifactError(
                f"{store.path}: stored reference values differ from the reference by {difference:.3g} in "
                f"log-probability (row {batch.groups[0].id}); delete the file, it is rebuilt"
            )
