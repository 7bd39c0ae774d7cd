"""The run's reference: which of the kinds it is, and the store that stands in front of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from palate.artifacts import check_writable
from palate.config.run import RunConfig
from palate.config.stages.preference import ReferenceFields
from palate.config.stages.rollout import RolloutFields
from palate.errors import ArtifactError, ModelError
from palate.models.builtin import cache_root
from palate.models.identity import model_hash
from palate.models.load import load_model, resolve_name, store_frozen_in
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
from palate.models.reference.store import ReferenceStore
from palate.models.reference.stored import StoredReference, fill, share, verify
from palate.models.tuning.vocabulary import embedding_rows
from palate.text.batch import Batch
from palate.text.encode import EncodedGroup
from palate.training.methods.base import Method
from palate.training.setup.build import Policy, enlarge, tree_of

Split = Callable[[Sequence[EncodedGroup]], list[Batch]]


def build_reference(
    config: RunConfig,
    method: Method[Any],
    policy: Policy,
    precision: Precision,
    device: torch.device,
    *,
    longest: int | None = None,
) -> Reference | None:
    """None, a separate model, the base under a new adapter, a copy of what trains, or stored values of one of these.

    Args:
        longest: tokens of the longest sequence that the run may score, where that is known.

    Raises:
        ModelError: `ref_model` cannot be loaded, shares storage with what trains, or reads no packed rows while the
            policy does.
        ArtifactError: `reference_cache` names a file that is damaged or belongs to another reference.
    """
    if not method.traits.needs_reference:
        return None
    cache = config.reference_cache if isinstance(config, ReferenceFields) else "off"
    live = _live(config, policy, precision, device, stored=cache != "off", longest=longest)
    check_separate(policy.model, live)
    if cache == "off":
        return live
    # The same weights give other values in another precision.
    identity = f"{live.identity}-{precision.name}"
    if cache != "auto":
        return StoredReference(ReferenceStore.open(cache, identity), live)
    try:
        store = ReferenceStore.open(references_root() / f"{identity}.safetensors", identity)
    except ArtifactError:
        # Nobody named this file: begin it again.
        (references_root() / f"{identity}.safetensors").unlink(missing_ok=True)
        store = ReferenceStore(references_root() / f"{identity}.safetensors", identity)
    return StoredReference(store, live)


def references_root() -> Path:
    """Where `reference_cache: auto` keeps its files: `$PALATE_REFERENCES`, else the cache folder."""
    named = os.environ.get("PALATE_REFERENCES")
    return Path(named) if named else cache_root() / "references"


def fill_reference(
    reference: Reference | None,
    groups: Sequence[EncodedGroup],
    split: Split,
    *,
    precision: Precision,
    device: torch.device,
    say: Callable[[str], None],
    main: bool,
) -> None:
    """Give a stored reference its values: check a sample of those it has, compute those it lacks, save.

    Ranks share the work and end with the same values; the main process writes the file.

    Raises:
        ArtifactError: stored values are not the reference's, or the file cannot be written.
    """
    if not isinstance(reference, StoredReference) or reference.live is None:
        return
    store, live = reference.store, reference.live
    # Ranks opened the file each at its own moment; from here on they agree on what is missing.
    store.gather()
    known = len(groups) - len(store.missing(groups))
    verify(store, live, groups, split, device, precision.name)
    missing = store.missing(groups)
    if missing:
        if main:
            check_writable(store.path)
        say(f"reference: scoring {len(missing)} groups once ({known} are stored already)")
        save = store.save if main else lambda: None
        try:
            fill(store, live, share(missing), split, device, save)
            store.gather()
        finally:  # Ctrl-C, or a model that fails on a row: what was scored is kept
            save()
    else:
        say(f"reference: all {known} groups are stored already, {store.path}")


def _live(
    config: RunConfig,
    policy: Policy,
    precision: Precision,
    device: torch.device,
    *,
    stored: bool,
    longest: int | None,
) -> AdapterOff | FrozenCopy | PolicyAtStart | SeparateModel:
    separate = config.ref_model if isinstance(config, ReferenceFields | RolloutFields) else None
    if separate is not None and not _is_the_policy(config, separate):

        def load() -> Any:
            loaded = load_model(separate, device=device, trust_remote_code=config.trust_remote_code)
            enlarge(loaded, config, embedding_rows(policy.model))
            return loaded

        model = load()
        identity = model_hash(model)

        def frozen(model: Any) -> Any:
            found = probe(model, want_packed=policy.probe.packed, tree=tree_of(config), longest=longest)
            if policy.probe.packed and not found.packed:
                raise ModelError(
                    f"ref_model: {separate} cannot read the packed rows that the policy reads: {found.reason}; set "
                    "attention: padded"
                )
            model.requires_grad_(False)
            store_frozen_in(model, precision)
            return model

        def reload() -> Any:
            again = load()
            if model_hash(again) != identity:
                raise ModelError(f"ref_model: {separate} has changed since the run began")
            return frozen(again).eval()

        # The same weights are the starting policy: no second model is needed to be the reference.
        if identity != policy.identity:
            return SeparateModel(frozen(model), precision, device, identity, is_start=False, reload=reload)
        del model
    if config.finetuning_type == "lora" and config.continued_adapter is None and _zero_start(config):
        return AdapterOff(policy.model, precision, device, policy.identity)
    kind = PolicyAtStart if stored else FrozenCopy
    return kind(policy.model, precision, device, policy.identity, policy.trunk)


def _is_the_policy(config: RunConfig, separate: str) -> bool:
    """The same folder or hub id, and nothing merged into it: no need to load it to find it equal."""
    same = resolve_name(separate) == resolve_name(config.model_name_or_path)
    return same and config.model_revision is None and not config.adapters


def _zero_start(config: RunConfig) -> bool:
    """Whether a new adapter adds exactly nothing. DoRA's magnitudes normalise the weights, which rounds."""
    return not config.use_dora
