"""A first config for a dataset and a model: what is chosen, and why (`palate init`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from palate.charts.text import amount
from palate.config.load import config_from_values
from palate.config.reader import dump_yaml
from palate.config.run import STAGES
from palate.data.formats.kinds import KIND_NAMES, KINDS, can_become
from palate.data.inspect import Inspection
from palate.data.source_reader import SourceReader
from palate.data.sources.spec import find_sources
from palate.errors import DataError, ModelError, UsageError
from palate.models.load import resolve_name
from palate.models.probe.limits import trained_length
from palate.models.spec import ModelSpec
from palate.models.upstream import first_line, quiet
from palate.records import (
    DatasetRequest,
    Demonstration,
    LabelledCompletion,
    PreferencePair,
    Ranking,
    Record,
    ScoredCompletion,
)

_RECORD: Mapping[str, type[Record]] = {
    "sft": Demonstration,
    "dpo": PreferencePair,
    "kto": LabelledCompletion,
    "rm": PreferencePair,
    "ppo": Record,
    "grpo": Record,
}
_STAGE_OF_KIND = {Demonstration: "sft", LabelledCompletion: "kto", ScoredCompletion: "rm", Record: "grpo"}
"""Of every other kind, `dpo`."""
_ONLINE = ("ppo", "grpo")

# The learning rates of docs/tuning.md: small models need at least the first, LoRA ten times that of full fine-tuning.
_SMALL, _SMALL_RATE, _LORA_FACTOR = 500_000_000, 1e-5, 10
_HELD_OUT_FROM = 50  # prompts
_ROUND_TO, _NEW_TOKENS = 128, 128  # tokens; the latter is the default of max_new_tokens
_SHARE = 0.6  # of the memory; the rest is for activations
_FULL, _LORA, _QUANTISED = 16.0, 2.2, 0.7  # bytes for each parameter
_KTO_RATIO = 1.15  # within 1 … 4/3, section 4.2 of 2402.01306
_LOOKED_AT = 200  # records, for names of dimensions


class Line(NamedTuple):
    """A key of the config with its value and the reason, which becomes a comment."""

    key: str
    value: Any
    reason: str = ""


class ModelSize(NamedTuple):
    """Number of parameters, and the tokens that the model was trained for (None if its config does not say)."""

    parameters: int
    longest: int | None


def model_size(spec: ModelSpec) -> ModelSize:
    """Builds the model without weights and counts. Raises ModelError if its config cannot be read."""
    try:
        with quiet(), torch.device("meta"):
            config = AutoConfig.from_pretrained(resolve_name(spec.model), **spec.origin)
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=spec.trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{spec.name}: its config cannot be read: {first_line(error)}") from error
    return ModelSize(sum(parameter.numel() for parameter in model.parameters()), trained_length(model))


def first_config(
    request: DatasetRequest,
    found: Inspection,
    spec: ModelSpec,
    size: ModelSize,
    *,
    memory: float,
    gpu: bool,
    stage: str | None = None,
    reward: str | None = None,
) -> list[Line]:
    """The lines of a config, checked as a whole.

    Args:
        found: the inspection of the dataset with the model's tokenizer.
        memory: bytes of the device that will train, which is a GPU or not.
        stage: as the user wants it; None chooses by the rows.
        reward: what scores answers, for `ppo` and `grpo`.

    Raises:
        DataError: no row can be used, or most cannot.
        UsageError: the rows do not fit the stage, a reward is missing, or the model does not fit into the memory.
    """
    lost = sum(count for source in found.sources for count in source.dropped_by_reason.values())
    if not found.records or lost > found.rows / 2:
        reasons = {reason for source in found.sources for reason in source.dropped_by_reason}
        raise DataError(
            f"{', '.join(source.path for source in found.sources)}: {lost:,} of {amount(found.rows, 'row')} cannot be "
            f"used ({', '.join(sorted(reasons))}); palate data inspect shows them; --column and --label say how to read"
        )
    lines = [*_stage(request, found, stage, reward), *_model(spec, size, memory, gpu=gpu)]
    chosen = {line.key: line.value for line in lines}
    lines += [*_data(request, found, size, chosen["stage"])]
    lines += [*_optimisation(found, size, chosen["stage"], chosen["finetuning_type"])]
    first = next(iter([request.dataset] if isinstance(request.dataset, str) else request.dataset))
    lines.append(Line("output_dir", f"runs/{Path(first).name.split('.')[0]}"))
    config_from_values({line.key: line.value for line in lines}, origin="palate init")
    return lines


def as_yaml_text(lines: Sequence[Line], head: Sequence[str]) -> str:
    """The config file: comments first, then a line for each key with its reason beside it."""
    keys = [f"{line.key}: {dump_yaml(line.value)}" for line in lines]
    width = min(max(len(key) for key in keys), 44)
    body = [f"{key:<{width}}  # {line.reason}" if line.reason else key for key, line in zip(keys, lines)]
    return "\n".join([*(f"# {line}" for line in head), *body]) + "\n"


def _stage(request: DatasetRequest, found: Inspection, wanted: str | None, reward: str | None) -> Iterator[Line]:
    kinds = [KINDS[name.replace(" ", "_")] for name in found.kinds]
    stage = wanted or _STAGE_OF_KIND.get(kinds[0], "dpo")
    scored = stage == "rm" and all(can_become(kind, ScoredCompletion) for kind in kinds)
    target = ScoredCompletion if scored else _RECORD[stage]
    other = next((kind for kind in kinds if not can_become(kind, target)), None)
    if other is not None:
        raise UsageError(
            f"stage {stage} needs {KIND_NAMES[target]}, and there are {KIND_NAMES[other]}; name another --stage"
        )
    if stage in _ONLINE and reward is None:
        raise UsageError(
            f"the rows are {KIND_NAMES[kinds[0]]}, to be answered by the model: name what scores its answers with "
            "--reward (a reward model's folder, module:function, length:shorter, openai:MODEL)"
        )
    if stage not in _ONLINE and reward is not None:
        raise UsageError(f"--reward is for stage ppo and grpo; this is stage {stage}")
    rows = ", ".join(amount(count, name.removesuffix("s")) for name, count in found.kinds.items())
    yield Line("stage", stage, f"the data has {rows}")
    if stage in _ONLINE:
        yield Line("rewards", reward)
    elif stage == "rm":
        yield Line("pref_loss", "reward_regression" if scored else "bradley_terry")
    elif stage != "sft":
        yield from _kto(found) if stage == "kto" else _dpo(request, kinds)
        yield Line("pref_beta", 0.1, "a larger value stays closer to the reference")


def _dpo(request: DatasetRequest, kinds: Sequence[type[Record]]) -> Iterator[Line]:
    names: dict[str, None] = {}
    for source in find_sources(request) if kinds == [PreferencePair] else ():
        for _, record in zip(range(_LOOKED_AT), SourceReader[Record](source, None, request)):
            if isinstance(record, PreferencePair) and record.dimensions:
                names.update(dict.fromkeys(record.dimensions))
    if kinds == [Ranking]:
        yield Line("pref_loss", "plackett_luce", "DPO's loss for rankings of any length")
    elif len(names) > 1:
        yield Line("pref_loss", "multi_soft", "rows have scores of several dimensions")
        yield Line("dimension_weights", {name: round(1 / len(names), 3) for name in names}, "set what matters to you")
    else:
        yield Line("pref_loss", "sigmoid", "DPO; docs/tutorials/losses.md says when another one helps")


def _kto(found: Inspection) -> Iterator[Line]:
    yield Line("pref_loss", "kto")
    wanted, unwanted = found.labels.get("desirable", 0), found.labels.get("undesirable", 0)
    if wanted and unwanted and not 1 <= wanted / unwanted <= 4 / 3:
        key = "kto_rejected_weight" if wanted > unwanted else "kto_chosen_weight"
        weight = wanted / unwanted / _KTO_RATIO if wanted > unwanted else _KTO_RATIO * unwanted / wanted
        yield Line(key, round(weight, 2), f"{wanted:,} desirable and {unwanted:,} undesirable answers")


def _model(spec: ModelSpec, size: ModelSize, memory: float, *, gpu: bool) -> Iterator[Line]:
    where = f"{memory / 1e9:.0f} GB {'GPU' if gpu else 'memory'}"
    fits = {share: share * size.parameters <= _SHARE * memory for share in (_FULL, _LORA, _QUANTISED)}
    if not fits[_LORA] and not (gpu and fits[_QUANTISED]):
        raise UsageError(
            f"{spec.name} has {size.parameters / 1e9:.1f} billion parameters and needs more than {where}, even with "
            "LoRA; name a smaller model, or the memory of the GPU that will train with --memory GB"
        )
    yield Line("model_name_or_path", spec.model, f"{size.parameters / 1e6:,.0f} million parameters")
    if spec.adapters:
        yield Line("adapter_name_or_path", list(spec.adapters), "training continues the last of these")
    if spec.template:
        yield Line("template", spec.template)
    all_weights = f"weights, gradients and optimiser: {_FULL * size.parameters / 1e9:.1f} GB; {where}"
    if fits[_FULL] and not spec.adapters:
        yield Line("finetuning_type", "full", all_weights)
        return
    yield Line("finetuning_type", "lora", "" if spec.adapters else f"full would need, for {all_weights}")
    if not spec.adapters:
        yield Line("lora_rank", 16)
    if not fits[_LORA]:
        yield Line("quantization_bit", 4, f"{_QUANTISED * size.parameters / 1e9:.1f} GB; needs bitsandbytes")


def _data(request: DatasetRequest, found: Inspection, size: ModelSize, stage: str) -> Iterator[Line]:
    yield Line("dataset", request.dataset)
    for key, value in (("columns", request.columns), ("labels", request.labels)):
        if value:
            yield Line(key, dict(value))
    if request.dataset_dir != "data":
        yield Line("dataset_dir", request.dataset_dir)
    longest = int(found.tokens.row.largest) if found.tokens is not None and found.tokens.row is not None else 0
    answer = _NEW_TOKENS if stage in _ONLINE else 0
    cutoff = -(-max(longest + answer, 1) // _ROUND_TO) * _ROUND_TO
    reason = f"the longest row has {longest:,} tokens" + (f", an answer at most {answer}" if answer else "")
    if size.longest is not None and cutoff > size.longest:
        cutoff, reason = size.longest, f"{reason}, the model was trained for {size.longest:,}"
    yield Line("cutoff_len", cutoff, reason)
    if found.prompts >= _HELD_OUT_FROM:
        yield Line("val_size", 0.1, f"held out by prompt, of {found.prompts:,} prompts")


def _optimisation(found: Inspection, size: ModelSize, stage: str, tuning: str) -> Iterator[Line]:
    small, lora = size.parameters < _SMALL, tuning == "lora"
    rate = max(float(STAGES[stage].model_fields["learning_rate"].default), _SMALL_RATE if small else 0.0)
    kind = f"{'small model' if small else 'model of this size'}{', LoRA' if lora else ''}"
    rate = float(f"{rate * (_LORA_FACTOR if lora else 1):.1e}")
    yield Line("learning_rate", rate, f"{kind}; smaller if answers get worse (docs/tuning.md)")
    yield Line("lr_scheduler_type", "cosine")
    yield Line("warmup_ratio", 0.1)
    yield Line("num_train_epochs", 1)
    yield Line(
        "per_device_train_batch_size", 8, "prompts to a step" if stage in _ONLINE else "split to fit into memory"
    )
    if stage not in _ONLINE and not small and found.records >= 320:
        yield Line("gradient_accumulation_steps", 4, "32 rows to a step")
