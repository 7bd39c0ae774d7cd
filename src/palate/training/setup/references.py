"""The run's reference: of which kind it is, and the store of its values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from palate.artifacts import check_writable
from palate.config.run import RunConfig
from palate.config.stages.preference import ReferenceFields
from palate.config.stages.rollout import RolloutFields
from palate.errors import ArtifactError, ModelError
from palate.models.attention.kernels import kernels_of
from palate.models.frozen import store_frozen_in
from palate.models.loading.builtin import cache_root
from palate.models.loading.identity import model_hash
from palate.models.loading.load import load_model
from palate.models.loading.resolve import resolve_name
from palate.models.loading.shards import Shards
from palate.models.precision import Precision
from palate.models.probe.probe import probe
from palate.models.reference.kinds import (
    AdapterOff,
    FrozenCopy,
    PolicyAtStart,
    Reference,
    SeparateModel,
    check_separate,
)
from palate.models.reference.precomputed import PrecomputedReference, fill, share, verify
from palate.models.reference.store import ReferenceStore
from palate.models.tuning.vocabulary import embedding_rows
from palate.text.batch import Batch
from palate.text.groups import EncodedGroup
from palate.training.methods.base import Method
from palate.training.setup.build import Policy, enlarge
from palate.training.sharded import in_step

Split = Callable[[Sequence[EncodedGroup]], Iterable[Batch]]


def build_reference(
    config: RunConfig,
    method: Method[Any],
    policy: Policy,
    precision: Precision,
    device: torch.device,
    *,
    longest: int | None = None,
    shards: Shards | None = None,
) -> Reference | None:
    """None, a separate model, the base under a new adapter, a copy of the trained part, or stored values of these.

    Args:
        config: a resolved run.
        method: whether it needs a reference.
        policy: as it starts.
        precision: of the run.
        device: of this process.
        longest: tokens of the longest sequence that the run may score, if known.
        shards: divides `ref_model` among the processes, as the policy is divided.

    Raises:
        ModelError: `ref_model` cannot be loaded, shares memory with the policy, or cannot read packed rows while the
            policy does.
        ArtifactError: `reference_cache` names a file that is damaged or belongs to another reference.
    """
    if not method.traits.needs_reference:
        return None
    cache = config.reference_cache if isinstance(config, ReferenceFields) else "off"
    live = _live(config, policy, precision, device, stored=cache != "off", longest=longest, shards=shards)
    check_separate(policy.model, live)
    if cache == "off":
        return live
    # The same weights give other values in another precision.
    identity = f"{live.identity}-{precision.name}"
    if cache != "auto":
        return PrecomputedReference(ReferenceStore.open(cache, identity), live)
    path = references_root() / f"{identity}.safetensors"
    try:
        store = ReferenceStore.open(path, identity)
    except ArtifactError:  # a damaged file that the user did not name is written anew
        path.unlink(missing_ok=True)
        store = ReferenceStore(path, identity)
    return PrecomputedReference(store, live)


def references_root() -> Path:
    """The folder of `reference_cache: auto`: `$PALATE_REFERENCES`, else the cache folder."""
    named = os.environ.get("PALATE_REFERENCES")
    return Path(named) if named else cache_root() / "references"


def fill_reference(
    reference: Reference | None,
    groups: Sequence[EncodedGroup],
    split: Split,
    *,
    precision: Precision,
    device: torch.device,
    report: Callable[[str], None],
    main: bool,
    divided: bool,
) -> None:
    """Check a sample of a stored reference's values, compute the missing ones, and save.

    The ranks share the work and all get all values; the main process writes the file. If each rank has a part of the
    model (`divided`), all make equally many passes.

    Raises:
        ArtifactError: stored values are not the reference's, or the file cannot be written.
    """
    if not isinstance(reference, PrecomputedReference) or reference.live is None:
        return
    store, live = reference.store, reference.live
    # Each rank opened the file at its own time: make them agree on what is missing.
    store.gather()
    missing = store.missing(groups)
    known = len(groups) - len(missing)
    verify(store, live, groups, split, device, precision.name)
    if missing:
        if main:
            check_writable(store.path)
        report(f"reference: scoring {len(missing)} groups once ({known} are stored already)")
        save = store.save if main else lambda: None
        try:
            mine = share(missing)
            if divided:
                fill(store, live, mine or missing[:1], lambda part: in_step(split(part), device), device, save)
            else:
                fill(store, live, mine, split, device, save)
            store.gather()
        finally:  # also after Ctrl-C or a row on which the model fails: keep what was scored
            save()
    else:
        report(f"reference: all {known} groups are stored already, {store.path}")


def _live(
    config: RunConfig,
    policy: Policy,
    precision: Precision,
    device: torch.device,
    *,
    stored: bool,
    longest: int | None,
    shards: Shards | None,
) -> AdapterOff | FrozenCopy | PolicyAtStart | SeparateModel:
    """The reference that scores; `stored` if its values are kept, so that no copy of the starting policy is needed."""
    separate = config.ref_model if isinstance(config, ReferenceFields | RolloutFields) else None
    if separate is not None and not _is_the_policy(config, separate):
        found = _separate(config, separate, policy, precision, device, longest, shards)
        if found is not None:
            return found
    # A new adapter adds exactly nothing, except DoRA's magnitudes: they normalise the weights, which rounds.
    if config.finetuning_type == "lora" and config.continued_adapter is None and not config.use_dora:
        return AdapterOff(policy.model, precision, device, policy.identity)
    kind = PolicyAtStart if stored else FrozenCopy
    return kind(policy.model, precision, device, policy.identity, policy.trunk)


def _separate(
    config: RunConfig,
    name: str,
    policy: Policy,
    precision: Precision,
    device: torch.device,
    longest: int | None,
    shards: Shards | None,
) -> SeparateModel | None:
    """`ref_model`, ready to score; None if its weights are those of the starting policy."""

    def load() -> Any:
        where = torch.device("cpu") if shards else device
        loaded = load_model(name, device=where, frozen=precision, trust_remote_code=config.trust_remote_code)
        enlarge(loaded, config, embedding_rows(policy.model))
        return loaded

    def frozen(model: Any) -> Any:
        if shards:
            store_frozen_in(model.requires_grad_(False), precision)
            model = shards.divide(model)
        found = probe(
            model,
            kernels=kernels_of(config.attention, device) if policy.probe.packed else (),
            precision=precision,
            longest=longest,
            gradients=False,
        )
        if policy.probe.packed and not found.packed:
            raise ModelError(
                f"ref_model: {name} cannot read the packed rows that the policy reads: {found.reason}; set "
                "attention: padded"
            )
        if not shards:
            store_frozen_in(model.requires_grad_(False), precision)
        return model

    def reload() -> Any:
        again = load()
        if model_hash(again) != identity:
            raise ModelError(f"ref_model: {name} has changed since the run began")
        return frozen(again).eval()

    model = load()
    identity = model_hash(model)
    if identity == policy.identity:
        return None
    return SeparateModel(frozen(model), precision, device, identity, is_start=False, reload=reload)


def _is_the_policy(config: RunConfig, separate: str) -> bool:
    """Whether it is the policy's model by name, with nothing merged into it, so that it need not be loaded."""
    same = resolve_name(separate) == resolve_name(config.model_name_or_path)
    return same and config.model_revision is None and not config.adapters
