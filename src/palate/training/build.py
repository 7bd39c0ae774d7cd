"""From a config to the policy, its reference, and what a user should know about both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from palate.config.run import DpoConfig, RunConfig
from palate.errors import ConfigError
from palate.models import tuning
from palate.models.identity import model_hash, weights_hash
from palate.models.load import load_model, resolve_name, store_frozen_in
from palate.models.precision import Precision
from palate.models.probe import Probe, probe
from palate.models.reference import AdapterOff, FrozenCopy, Reference, SeparateModel, check_separate
from palate.text.batch import Batch, pack, pad
from palate.text.encode import EncodedGroup
from palate.training.methods.base import Method


@dataclass(frozen=True, slots=True)
class Policy:
    """The model that trains.

    Attributes:
        model: with the scoring forward, under PEFT where adapters train.
        probe: what the check at load found; decides between packed and padded batches.
        identity: content hash of the weights as the run starts, whatever of them trains.
        trainable: number of parameters that train.
        total: number of parameters.
        notices: lines for a person.
    """

    model: nn.Module
    probe: Probe
    identity: str
    trainable: int
    total: int
    notices: tuple[str, ...]

    @property
    def collate(self) -> Callable[[Sequence[EncodedGroup]], Batch]:
        return pack if self.probe.packed else pad


def build_policy(config: RunConfig, precision: Precision, device: torch.device) -> Policy:
    """Load the model, check how it computes, and decide what of it trains.

    Raises:
        ModelError: it cannot be loaded. ConfigError: the config asks for layers or modules that it does not have.
    """
    model: Any = load_model(
        config.model_name_or_path,
        device=device,
        revision=config.model_revision,
        trust_remote_code=config.trust_remote_code,
        dropout=config.dropout,
        quantization_bit=config.quantization_bit,
    )
    identity = model_hash(model)
    found = probe(model, want_packed=config.attention != "padded")
    if config.attention == "tree" and not found.packed:
        raise ConfigError(f"attention: tree does not work with {config.model_name_or_path}: {found.reason}")
    notices = []
    if not found.packed and config.attention == "auto":
        notices.append(f"attention: padded rows, because {found.reason}")
    model, notices_of_tuning, adapter_hash = _tune(model, config)
    notices += notices_of_tuning
    if adapter_hash:
        identity = f"{identity}+{adapter_hash}"
    tuning.upcast_trainable(model)
    store_frozen_in(model, precision)
    trainable, total = tuning.count_parameters(model)
    notices.append(f"training {trainable:,} of {total:,} parameters ({100 * trainable / total:.1f} %)")
    return Policy(model, found, identity, trainable, total, tuple(notices))


def _tune(model: Any, config: RunConfig) -> tuple[nn.Module, list[str], str]:
    """The model with its trainable part chosen, lines about it, and the hash of an adapter that training continues."""
    notices: list[str] = []
    if config.adapter_name_or_path and config.finetuning_type != "lora":
        model = tuning.merge_adapter(model, config.adapter_name_or_path)
        notices.append(f"adapter {config.adapter_name_or_path}: merged into the model before training")
        merged = weights_hash(model.state_dict())
    else:
        merged = ""
    if config.finetuning_type == "full":
        return tuning.train_all(model), notices, merged
    if config.finetuning_type == "freeze":
        tuned: Any = tuning.train_last_layers(model, config.freeze_trainable_layers, config.freeze_extra_modules)
        norm = "trains" if tuning.final_norm_trains(tuned) else "is frozen"
        notices.append(f"the last {config.freeze_trainable_layers} decoder layers train; the final norm {norm}")
        return tuned, notices, merged
    if config.adapter_name_or_path:
        tuned = tuning.continue_adapter(model, config.adapter_name_or_path)
        adapter = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
        return tuned, notices, weights_hash(adapter)
    tuned = tuning.add_lora(
        model,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        target=config.lora_target,
        dora=config.use_dora,
        rslora=config.use_rslora,
    )
    return tuned, notices, ""


def build_reference(
    config: RunConfig, method: Method, policy: Policy, precision: Precision, device: torch.device
) -> Reference | None:
    """The reference of the run: none, a separate model, the base under a new adapter, or a copy of what trains.

    Raises:
        ModelError: `ref_model` cannot be loaded, or shares storage with what trains.
    """
    if not method.needs_reference:
        return None
    reference = _reference(config, policy, precision, device)
    check_separate(policy.model, reference)
    return reference


def _reference(config: RunConfig, policy: Policy, precision: Precision, device: torch.device) -> Reference:
    separate = config.ref_model if isinstance(config, DpoConfig) else None
    if separate is not None and not _is_the_policy(config, separate):
        model = load_model(separate, device=device, trust_remote_code=config.trust_remote_code)
        identity = model_hash(model)
        # The same weights are the starting policy: no second model is needed to be the reference.
        if identity != policy.identity:
            probe(model, want_packed=policy.probe.packed)
            model.requires_grad_(False)
            store_frozen_in(model, precision)
            return SeparateModel(model, precision, device, identity, is_start=False)
        del model
    if config.finetuning_type == "lora" and not config.adapter_name_or_path and _zero_start(config):
        return AdapterOff(policy.model, precision, device, policy.identity)
    return FrozenCopy(policy.model, precision, device, policy.identity)


def _is_the_policy(config: RunConfig, separate: str) -> bool:
    """The same folder or hub id, and nothing merged into it: no need to load it to find it equal."""
    same = resolve_name(separate) == resolve_name(config.model_name_or_path)
    return same and config.model_revision is None and config.adapter_name_or_path is None


def _zero_start(config: RunConfig) -> bool:
    """Whether a new adapter adds exactly nothing. DoRA's magnitudes normalise the weights, which rounds."""
    return not config.use_dora
