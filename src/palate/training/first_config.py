"""A first config for a dataset and a model: what is chosen, and why (`palate init`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from palate.capacity.hardware import Hardware
from palate.capacity.job import Job, RowTokens, Workload
from palate.capacity.memory import Memory, memory_of
from palate.capacity.shapes import ModelShape
from palate.charts.text import amount
from palate.config.load import config_from_values
from palate.config.reader import dump_yaml
from palate.config.run import STAGES
from palate.config.steps import is_small, recommended_rate
from palate.data.formats.kinds import KIND_NAMES, KINDS, can_become
from palate.data.inspect import Inspection
from palate.data.source_reader import SourceReader
from palate.data.sources.spec import find_sources
from palate.errors import DataError, UsageError
from palate.models.loading.spec import ModelSpec
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

# docs/tuning.md: steps from which a first run changes answers, and the most epochs, of small models and of others.
_LEARNS, _MOST_EPOCHS_SMALL, _MOST_EPOCHS = 240, 3, 2
_HELD_OUT_FROM = 50  # prompts
_BATCH = 8  # rows
_ROUND_TO, _NEW_TOKENS = 128, 128  # tokens; the latter is the default of max_new_tokens
# The kinds of tuning, the one that trains most first; the last one needs a GPU.
_TUNINGS: tuple[dict[str, Any], ...] = (
    {"finetuning_type": "full"},
    {"finetuning_type": "lora", "lora_rank": 16},
    {"finetuning_type": "lora", "lora_rank": 16, "quantization_bit": 4},
)
_KTO_RATIO = 1.15  # within 1 … 4/3, section 4.2 of 2402.01306
_LOOKED_AT = 200  # records, for names of dimensions


class Line(NamedTuple):
    """A key of the config with its value and the reason, which becomes a comment."""

    key: str
    value: Any
    reason: str = ""


def first_config(
    request: DatasetRequest,
    found: Inspection,
    spec: ModelSpec,
    shape: ModelShape,
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
    objective = [*_stage(request, found, stage, reward)]
    chosen = {line.key: line.value for line in objective}
    data = [*_data(request, found, shape, chosen["stage"])]
    device = Hardware("here", memory / 1e9, 1, 1, gpu=gpu)
    values = {line.key: line.value for line in (*objective, *data)}
    values |= {"model_name_or_path": spec.model, "adapter_name_or_path": list(spec.adapters) or None}
    values["per_device_train_batch_size"] = _BATCH
    tunings = _TUNINGS if gpu else _TUNINGS[:-1]
    peaks = [_peak({**values, **tuning}, found, shape, device) for tuning in tunings]
    model = [*_model(spec, shape, peaks, device)]
    chosen |= {line.key: line.value for line in model}
    lines = [*objective, *model, *data]
    lines += _optimisation(found, shape, chosen["stage"], chosen["finetuning_type"])
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


def _peak(values: Mapping[str, Any], found: Inspection, shape: ModelShape, device: Hardware) -> Memory:
    """What a run would need if all its rows were as long as the longest."""
    config = config_from_values({**values, "output_dir": "runs"}, origin="palate init").config
    longest, answer, answers = config.cutoff_len, 0, 1
    if values["stage"] in _ONLINE:
        answer, answers = _NEW_TOKENS, getattr(config, "num_generations", 1)
    elif found.tokens is not None and found.tokens.row is not None and found.tokens.completion is not None:
        longest = min(longest, int(found.tokens.row.largest))
        answer = min(longest, int(found.tokens.completion.largest))
        answers = max(1, round(found.tokens.completion.count / found.records))
    row = RowTokens(max(longest - answer, 0), (answer,) * answers)
    work = Workload(found.records, [row], "the longest row")
    return memory_of(Job(config, shape, work, device))


def _model(spec: ModelSpec, shape: ModelShape, peaks: Sequence[Memory], device: Hardware) -> Iterator[Line]:
    where = f"{device.memory:.0f} GB {'GPU' if device.gpu else 'memory'}"
    count, sizes = shape.counts.total, [f"{one.peak / 1e9:.1f} GB" for one in peaks]
    # An adapter is continued, so not all weights train.
    chosen = next((n for n, one in enumerate(peaks) if one.fits and (n or not spec.adapters)), None)
    if chosen is None:
        raise UsageError(
            f"{spec.name} has {count / 1e9:.1f} billion parameters and needs {sizes[-1]} even with LoRA, more than "
            f"{where}; name a smaller model, or the memory of the GPU that will train with --memory GB"
        )
    yield Line("model_name_or_path", spec.model, f"{count / 1e6:,.0f} million parameters")
    if spec.adapters:
        yield Line("adapter_name_or_path", list(spec.adapters), "training continues the last of these")
    if spec.template:
        yield Line("template", spec.template)
    full = f"; full would need {sizes[0]}" if chosen and not spec.adapters else ""
    reasons = {
        "finetuning_type": f"{sizes[chosen]} at the peak; {where}{full}",
        "quantization_bit": "needs bitsandbytes",
    }
    for key, value in _TUNINGS[chosen].items():
        if key != "lora_rank" or not spec.adapters:
            yield Line(key, value, reasons.get(key, ""))


def _data(request: DatasetRequest, found: Inspection, shape: ModelShape, stage: str) -> Iterator[Line]:
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
    if shape.max_positions is not None and cutoff > shape.max_positions:
        cutoff, reason = shape.max_positions, f"{reason}, the model was trained for {shape.max_positions:,}"
    yield Line("cutoff_len", cutoff, reason)
    if found.prompts >= _HELD_OUT_FROM:
        yield Line("val_size", 0.1, f"held out by prompt, of {found.prompts:,} prompts")


def _optimisation(found: Inspection, shape: ModelShape, stage: str, tuning: str) -> Iterator[Line]:
    count = shape.counts.total
    small, lora = is_small(count), tuning == "lora"
    kind = f"{'small model' if small else 'model of this size'}{', LoRA' if lora else ''}"
    rate = recommended_rate(STAGES[stage], tuning, count)
    yield Line("learning_rate", rate, f"{kind}; smaller if answers get worse (docs/tuning.md)")
    yield Line("lr_scheduler_type", "cosine")
    yield Line("warmup_ratio", 0.1)
    accumulation = 4 if stage not in _ONLINE and not small and found.records >= 320 else 1
    yield _epochs(found, small, stage, _BATCH * accumulation)
    yield Line(
        "per_device_train_batch_size", _BATCH, "prompts to a step" if stage in _ONLINE else "split to fit into memory"
    )
    if accumulation > 1:
        yield Line("gradient_accumulation_steps", accumulation, "32 rows to a step")


def _epochs(found: Inspection, small: bool, stage: str, rows_of_step: int) -> Line:
    """Enough passes for a first run whose answers differ, within the range of docs/tuning.md."""
    rows = found.records * (0.9 if found.prompts >= _HELD_OUT_FROM else 1)
    steps = max(1, round(rows / rows_of_step))
    most = _MOST_EPOCHS_SMALL if small else _MOST_EPOCHS
    epochs = 1 if stage in _ONLINE else min(-(-_LEARNS // steps), most)
    reason = f"{amount(steps, 'step')} each"
    if epochs > 1:
        reason += "; fewer steps hardly change the answers of a small model" if small else "; few rows"
    return Line("num_train_epochs", epochs, reason)
