"""From a config to the policy, ready to train, with lines about it for the user."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from palate.config.run import RunConfig
from palate.config.stages.optimisation import NoiseFields
from palate.config.stages.rollout import RolloutFields
from palate.errors import ConfigError
from palate.models.attention.kernels import ATTENTION_NAMES, kernels_of
from palate.models.cpu.layers import apply_fused
from palate.models.frozen import store_frozen_in
from palate.models.loading.identity import adapter_hash, model_hash, weights_hash
from palate.models.loading.load import load_model
from palate.models.loading.shards import Shards
from palate.models.precision import Precision
from palate.models.probe.probe import Probe, probe, same_choices
from palate.models.scoring.trunk import TrunkCache
from palate.models.tuning import trainable
from palate.models.tuning.experts import RouterBalance, has_experts, router_balance
from palate.models.tuning.liger import apply_liger
from palate.models.tuning.module_names import lora_notice, router_names
from palate.models.tuning.neftune import EmbeddingNoise
from palate.models.tuning.vocabulary import embedding_modules, embedding_rows, enlarge_embedding
from palate.models.upstream import base_of
from palate.text.batch import Batch, pack, pad
from palate.text.groups import EncodedGroup
from palate.training.setup.environment import available_memory_bytes

# The share of the memory that is free at the start which stored trunk states may take.
_TRUNK_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Policy:
    """The model that trains.

    Attributes:
        model: with the scoring forward, under PEFT where adapters train.
        probe: result of the check at load; decides between packed and padded batches.
        identity: content hash of all weights at the start.
        trainable: number of parameters that train.
        total: number of parameters.
        trunk: a cache of the frozen bottom layers' outputs, or None.
        balance: the load-balancing term of a mixture of experts, or None.
        noise: on the embeddings in training (NEFTune), or None.
        notices: lines for the user.
    """

    model: nn.Module
    probe: Probe
    identity: str
    trainable: int
    total: int
    trunk: TrunkCache | None
    balance: RouterBalance | None
    noise: EmbeddingNoise | None
    notices: tuple[str, ...]

    @property
    def collate(self) -> Callable[[Sequence[EncodedGroup]], Batch]:
        return pack if self.probe.packed else pad


def build_policy(
    config: RunConfig,
    precision: Precision,
    device: torch.device,
    *,
    head: str = "lm",
    longest: int | None = None,
    tokens: int = 0,
    shards: Shards | None = None,
) -> Policy:
    """Load the model, check which attention and batches it supports, and choose the parameters that train.

    Args:
        config: a resolved run.
        precision: of the run.
        device: of this process.
        head: `lm` or `reward`, see `methods.base.Traits`.
        longest: tokens of the longest sequence that the run may score, if known.
        tokens: size of the tokenizer, with new tokens.
        shards: divides the model among the processes, if each is to hold a part only.

    Raises:
        ModelError: it cannot be loaded.
        ConfigError: the config names layers or modules that the model lacks.
    """
    if config.attention in ("varlen", "flex") and device.type != "cuda":
        raise ConfigError(
            f"attention: {config.attention} trains on a CUDA GPU only, this run is on {device.type}; use "
            "attention: tree"
        )
    model: Any = load_model(
        config.model_name_or_path,
        device=torch.device("cpu") if shards else device,
        frozen=precision if _loads_narrow(config, divided=shards is not None) else None,
        revision=config.model_revision,
        trust_remote_code=config.trust_remote_code,
        dropout=config.dropout,
        quantization_bit=config.quantization_bit,
        double_quantization=config.double_quantization,
        head=head,
    )
    notices = enlarge(model, config, tokens)
    identity = model_hash(model)
    if config.use_liger_kernel:
        notices.append(apply_liger(model, precision, device))
    kernels = kernels_of(config.attention, device)
    probed = shards.divide(model, trains=False) if shards else model
    found = probe(probed, head=head, kernels=kernels, precision=precision, longest=longest)
    if shards:
        same_choices(model, probed)
        del probed
        gc.collect()  # its part makes room for that of the model that trains
    if found.packed and device.type == "cpu":
        apply_fused(model)
    if config.attention in ATTENTION_NAMES and not found.packed:
        raise ConfigError(
            f"attention: {config.attention} does not work with {config.model_name_or_path}: {found.reason}"
        )
    if model.length_rule is not None and not found.packed and (config.fsdp or config.deepspeed):
        # Ranks would make different numbers of forward passes, and a sharded model waits for all ranks in each.
        raise ConfigError(f"a sharded model cannot score rows in separate passes: {model.length_rule.reason}")
    if not found.packed and config.attention == "auto":
        notices.append(f"attention: padded rows, because {found.reason}")
    notices += [f"attention: {found.attention}, not {line}" for line in found.refused]
    model, notices_of_tuning, added = _tune(model, config, head)
    notices += notices_of_tuning
    if added:
        identity = f"{identity}+{added}"
    if not shards:  # trained weights get float32 as they are divided
        trainable.upcast_trainable(model)
    store_frozen_in(model, precision)
    balance, about = _balance(config, model)
    if about:
        notices.append(about)
    trained, total = trainable.count_parameters(model)
    if shards:
        model = shards.divide(model)
        gc.collect()  # the whole model, which refers to itself
    notices.append(f"training {trained:,} of {total:,} parameters ({100 * trained / total:.1f} %)")
    alpha = noise_alpha(config)
    noise = EmbeddingNoise(model, alpha) if alpha else None
    trunk = None if balance is not None else _trunk(model, config, found)  # replayed layers have no router outputs
    return Policy(model, found, identity, trained, total, trunk, balance, noise, tuple(notices))


def _loads_narrow(config: RunConfig, *, divided: bool) -> bool:
    """Whether weights are loaded as they are in the files: what is merged or computed from them needs float32.

    So do trained weights, but if the model is divided each process widens its part only.
    """
    changes = config.merged_adapters or config.use_dora or config.resize_vocab
    return (divided or config.finetuning_type != "full") and not changes


def noise_alpha(config: RunConfig) -> float:
    """NEFTune's α; 0 without noise."""
    return config.neftune_noise_alpha if isinstance(config, NoiseFields) else 0.0


def enlarge(model: Any, config: RunConfig, tokens: int) -> list[str]:
    """Give the model an embedding for each token if the config asks for it; returns lines about it.

    Raises:
        ConfigError: tokens are added, and the config forbids to resize the embedding.
    """
    rows = embedding_rows(model)
    if config.resize_vocab and rows >= tokens:
        return [f"resize_vocab has no effect: the embedding has {rows} rows for {tokens} tokens"]
    if config.resize_vocab:
        enlarge_embedding(model, tokens)
        return [f"embedding: {rows} rows became {tokens}; the new ones begin as the mean of the others"]
    if rows < tokens and (config.add_tokens or config.add_special_tokens):
        raise ConfigError(
            f"resize_vocab: false, but with the new tokens the tokenizer has {tokens} and the embedding {rows} rows; "
            "set resize_vocab: true, or add no tokens"
        )
    return []


def _balance(config: RunConfig, model: Any) -> tuple[RouterBalance | None, str]:
    """The load-balancing term of a mixture of experts, or None, and a line about it or "".

    Raises:
        ConfigError: `moe_aux_loss_coef` asks for a term that this model cannot give.
    """
    base = base_of(model)
    given = config.moe_aux_loss_coef
    balance, reason = router_balance(base, given)
    if balance is not None:
        return balance, f"experts: the loss has {balance.coefficient:g} × the load-balancing term (logged as aux_loss)"
    if reason and given:
        raise ConfigError(f"moe_aux_loss_coef: {given:g} cannot be applied: {reason}")
    if reason:
        return None, f"experts: no load-balancing term, because {reason}"
    off = "experts: no load-balancing term; moe_aux_loss_coef adds one"
    return None, off if has_experts(base) and given is None else ""


def _trunk(model: nn.Module, config: RunConfig, found: Probe) -> TrunkCache | None:
    """A trunk cache, if bottom layers are frozen, rows are packed and nothing in the frozen part is random."""
    # Sampled answers are new at every step: no stored state would be used again.
    wanted = getattr(config, "trunk_cache", "auto") != "off" and not isinstance(config, RolloutFields)
    if not wanted or config.finetuning_type != "freeze" or not found.packed:
        return None
    if config.deepspeed:  # ZeRO-3 gathers the weights of each layer that runs, which must be the same on all ranks
        return None
    if config.dropout > 0 or noise_alpha(config) > 0:
        return None
    trunk = TrunkCache(model, limit_bytes=int(_TRUNK_SHARE * available_memory_bytes()))
    return trunk if trunk else None


def _tune(model: Any, config: RunConfig, head: str) -> tuple[nn.Module, list[str], str]:
    """The model with its trainable part chosen, lines about it, and the hash of the adapters that it starts from."""
    notices: list[str] = []
    task = trainable.TASKS[head]
    for adapter in config.merged_adapters:
        model = trainable.merge_adapter(model, adapter, task=task)
        notices.append(f"adapter {adapter}: merged into the model before training")
    start = [weights_hash(model.state_dict())] if config.merged_adapters else []
    grown = getattr(model, "enlarged_vocabulary", False)
    if config.finetuning_type == "full":
        return model.requires_grad_(True), notices, "".join(start)
    if config.finetuning_type == "freeze":
        extra = [*config.freeze_extra_modules, *(["score"] if head == "reward" else [])]
        tuned: nn.Module = trainable.train_last_layers(model, config.freeze_trainable_layers, extra)
        if grown and _embedding_frozen(tuned):
            notices.append(
                "warning: the new tokens' embeddings are frozen; freeze_extra_modules: embed_tokens trains them"
            )
        norm = "trains" if trainable.final_norm_trains(tuned) else "is frozen"
        which, layers = "last" if config.freeze_trainable_layers > 0 else "first", abs(config.freeze_trainable_layers)
        notices.append(f"the {which} {layers} decoder layers train; the final norm {norm}")
        return tuned, notices, "".join(start)
    if config.merged_adapters:
        named = ",".join([*config.merged_adapters, config.output_dir])
        notices.append(f"the saved adapter needs those merged before it: adapter_name_or_path: {named}")
    if config.continued_adapter is None:
        tuned, lora_notices = _with_lora(model, config, task)
        return tuned, notices + lora_notices, "".join(start)
    tuned = trainable.continue_adapter(model, config.continued_adapter, task=task)
    if grown and _embedding_frozen(tuned):
        notices.append(
            "warning: the new tokens' embeddings are frozen, because the adapter that is continued has none; "
            "create_new_adapter: true trains them"
        )
    return tuned, notices, "+".join([*start, adapter_hash(tuned)])


def _embedding_frozen(model: Any) -> bool:
    return not any(parameter.requires_grad for parameter in model.get_input_embeddings().parameters())


def _with_lora(model: Any, config: RunConfig, task: str) -> tuple[nn.Module, list[str]]:
    """The model under a new adapter, and lines about it."""
    notices: list[str] = []
    whole = config.additional_target
    if getattr(model, "enlarged_vocabulary", False) and not whole:
        whole = embedding_modules(model)
        notices.append(f"new tokens: {' and '.join(whole)} train as a whole (additional_target)")
    tuned = trainable.add_lora(
        model,
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        target=config.lora_target,
        dora=config.use_dora,
        rslora=config.use_rslora,
        whole=whole,
        task=task,
    )
    if config.lora_target == "all" and router_names(tuned):
        notices.append(lora_notice(tuned))
    return tuned, notices
