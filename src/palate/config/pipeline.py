"""Several runs in one file: `stages:`, each from the one before, and `rounds:`, one stage again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from palate.config.base import Fields
from palate.config.explain import explain
from palate.config.functions import names_function
from palate.config.load import PIPELINE_KEYS, config_from_entries, output_folder, overridden, wants_overwriting
from palate.config.reader import Entry, as_yaml, read_config_file, read_override
from palate.config.run import STAGES, RunConfig
from palate.config.values import NamedOrPath, PathText
from palate.errors import ConfigError


class SamplingFields(Fields):
    """How a round makes its own pairs: the policy answers prompts, a judge compares the answers."""

    prompts: PathText = Field(
        min_length=1, description="Prompts that the policy answers at the beginning of each round."
    )
    judge: NamedOrPath = Field(
        min_length=1, description="What compares the answers, as `palate judge --judge` names it."
    )
    prompts_per_round: int | None = Field(
        None, ge=1, description="Prompts drawn for a round.", json_schema_extra={"default": "all"}
    )
    candidates: int = Field(4, ge=2, description="Answers to each prompt.")
    select: Literal["all", "extremes"] = Field(
        "extremes", description="Pairs of a prompt: all that the judge decides, or best against worst."
    )
    candidate_max_new_tokens: int = Field(128, ge=1, description="Longest answer, in tokens.")
    candidate_temperature: float = Field(1.0, gt=0, description="Of the sampling.")
    candidate_url: str | None = Field(
        None,
        description="OpenAI-compatible engine that answers in the policy's place, up to /v1.",
        json_schema_extra={"default": "the policy answers, in this process"},
    )
    candidate_model: str | None = Field(
        None, description="The engine's name for the policy.", json_schema_extra={"default": "none"}
    )
    candidate_sync: NamedOrPath | None = Field(
        None,
        description="How the engine gets the policy before each round: module:function or file.py:function, called "
        "with the folder that the round starts from and candidate_model; or none, where it goes on with its own.",
        json_schema_extra={"default": "none; needed with candidate_url"},
    )

    @model_validator(mode="after")
    def _an_engine_is_told_whole(self) -> Any:
        about = {"candidate_model": self.candidate_model, "candidate_sync": self.candidate_sync}
        odd = next((key for key, value in about.items() if (value is None) != (self.candidate_url is None)), None)
        if odd is not None and self.candidate_url is None:
            raise ValueError(f"{odd} has no effect without candidate_url; add it, or remove the key")
        if odd is not None:
            raise ValueError(f"candidate_url needs {odd} beside it")
        if self.candidate_sync not in (None, "none") and not names_function(str(self.candidate_sync)):
            raise ValueError(f"candidate_sync: {self.candidate_sync} is not none, module:function or file.py:function")
        return self


class DriftFields(Fields):
    """What is measured after each stage or round, against the model that the pipeline began with."""

    drift_prompts: PathText | None = Field(
        None, description="Fixed prompts for the KL.", json_schema_extra={"default": "those of the first dataset"}
    )
    drift_samples: int = Field(32, ge=0, description="How many of them; 0 measures nothing.")
    drift_max_new_tokens: int = Field(64, ge=1, description="Longest answer that the KL is estimated on.")


class RoundFields(Fields):
    """What the rounds are compared with."""

    reference: Literal["previous", "first"] = Field(
        "previous", description="The reference of a round: what it starts from, or what the first one started from."
    )


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a pipeline.

    Attributes:
        name: `1-sft`, `round-2`; its directory within the pipeline's.
        config: resolved; starts from the artifact of the run before.
        sampling: how its pairs are made first, or None.
    """

    name: str
    config: RunConfig
    sampling: SamplingFields | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Runs in their order.

    Attributes:
        kind: `stages` or `rounds`, as written.
        output_dir: of the whole; runs lie below it.
        runs: each from the one before.
        drift: what is measured after each.
        overwrite: begin anew, whatever lies there.
        notices: lines about the config for a person.
    """

    kind: str
    output_dir: Path
    runs: tuple[PlannedRun, ...]
    drift: DriftFields
    overwrite: bool
    notices: tuple[str, ...]


def is_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> bool:
    """Whether a config file, or an override, has `stages` or `rounds`."""
    keys = [*read_config_file(path), *(read_override(text)[0] for text in overrides)]
    return any(key.partition(".")[0] in PIPELINE_KEYS for key in keys)


def load_pipeline(path: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline, and resolve every run of it before the first one starts.

    Keys beside `stages` or `rounds` hold for every run that has them; those of a stage or round win over them.

    Raises:
        ConfigError: a line for each key that is wrong, with the file and line, the stage, and the remedy.
    """
    given = overridden(read_config_file(path), overrides)
    entries, notices = given.entries, given.lines()
    origin = str(path)
    kind = next((key for key in PIPELINE_KEYS if key in entries), "")
    if all(key in entries for key in PIPELINE_KEYS):
        raise ConfigError(f"{entries['rounds'].where}: stages and rounds cannot both be given; keep one of them")
    folder = output_folder(entries, origin)
    own: dict[str, Any] = {topic.__name__: _topic(topic, entries, origin) for topic in (DriftFields, RoundFields)}
    common = {
        key: entry
        for key, entry in entries.items()
        if key not in (*PIPELINE_KEYS, "output_dir", "overwrite_output_dir", "resume_from_checkpoint")
        and key not in (*DriftFields.model_fields, *RoundFields.model_fields)
    }
    parts = _parts(kind, entries[kind])
    if kind == "stages":
        if "reference" in entries:
            raise ConfigError(f"{entries['reference'].where}: reference belongs to rounds; a stage may set ref_model")
        runs, said, wrong = _stages(parts, common, folder)
    else:
        runs, said, wrong = _rounds(parts, common, folder, own["RoundFields"].reference, origin)
    if wrong or given.refused:
        raise ConfigError(*given.refused.values(), *wrong)
    notices = [*notices, *dict.fromkeys(said)]
    return Pipeline(kind, folder, tuple(runs), own["DriftFields"], wants_overwriting(entries), tuple(notices))


def _parts(kind: str, entry: Entry) -> list[dict[str, Entry]]:
    """The stages or rounds, each with its own keys; `rounds: 3` is three without any."""
    value = entry.value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        value = [{}] * value
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        forms = "a number or a list of mappings" if kind == "rounds" else "a list of mappings"
        raise ConfigError(f"{entry.where}: {kind} must be {forms}, not {as_yaml(value)}")
    return [
        {str(key): Entry(given, f"{entry.where} (number {number})") for key, given in one.items()}
        for number, one in enumerate(value, 1)
    ]


def _stages(
    parts: Sequence[Mapping[str, Entry]], common: Mapping[str, Entry], folder: Path
) -> tuple[list[PlannedRun], list[str], list[str]]:
    """The runs, notices, and a line for each key that is wrong in any of them."""
    runs: list[PlannedRun] = []
    notices: list[str] = []
    wrong: list[str] = []
    policy: RunConfig | None = None
    used: set[str] = set()
    for number, part in enumerate(parts, 1):
        stage = part.get("stage", common.get("stage"))
        if stage is None or stage.value not in STAGES:
            where = next(iter(part.values())).where if part else f"stages, number {number}"
            wrong.append(f"{where}: names no stage; add `stage: sft` (one of {', '.join(STAGES)})")
            continue
        fields = STAGES[str(stage.value)].model_fields
        shared = {key: entry for key, entry in common.items() if key in fields}
        used.update(shared)
        name = f"{number}-{stage.value}"
        given = {**shared, **part, **_start(part, policy), "output_dir": Entry(str(folder / name), "output_dir")}
        try:
            loaded = config_from_entries(_somewhere(given, wrong), origin=f"stages, number {number}")
        except ConfigError as error:
            wrong += error.lines
            continue
        notices += loaded.notices
        runs.append(PlannedRun(name, loaded.config))
        if stage.value != "rm":  # a reward model rewards later stages; it is no policy to go on from
            policy = loaded.config
    wrong += _unused(common, used)
    return runs, notices, list(dict.fromkeys(wrong))


def _rounds(
    parts: Sequence[Mapping[str, Entry]], common: Mapping[str, Entry], folder: Path, reference: str, origin: str
) -> tuple[list[PlannedRun], list[str], list[str]]:
    """The runs, notices, and a line for each key that is wrong in any of them."""
    runs: list[PlannedRun] = []
    notices: list[str] = []
    wrong: list[str] = []
    before: RunConfig | None = None
    for number, part in enumerate(parts, 1):
        name = f"round-{number}"
        given = {**common, **part}
        sampling_entries = {key: given.pop(key) for key in SamplingFields.model_fields if key in given}
        sampling = None
        if sampling_entries:
            if "dataset" in given and given["dataset"].value is not None:
                raise ConfigError(f"{given['dataset'].where}: a round has either a dataset or prompts and a judge")
            sampling = _topic(SamplingFields, sampling_entries, origin)
            given["dataset"] = Entry(str(folder / f"{name}-data" / "pairs.jsonl"), "prompts")
        given |= {**_start(part, before), "output_dir": Entry(str(folder / name), "output_dir")}
        if reference == "first" and runs:
            given["ref_model"] = Entry(_first_model(runs[0].config), "reference")
        try:
            loaded = config_from_entries(_somewhere(given, wrong), origin=f"rounds, number {number}")
        except ConfigError as error:
            wrong += error.lines
            continue
        notices += loaded.notices
        runs.append(PlannedRun(name, loaded.config, sampling))
        before = loaded.config
    return runs, notices, list(dict.fromkeys(wrong))


def _somewhere(given: Mapping[str, Entry], wrong: Sequence[str]) -> Mapping[str, Entry]:
    """Beside a run that is wrong, the one after it starts from a model that nobody knows yet."""
    return {"model_name_or_path": Entry("the run before", "the run before"), **given} if wrong else given


def _start(part: Mapping[str, Entry], before: RunConfig | None) -> dict[str, Entry]:
    """The keys by which a run starts from what the one before it leaves behind, unless it names a model itself."""
    if before is None or "model_name_or_path" in part or "adapter_name_or_path" in part:
        return {}
    if before.finetuning_type == "lora":
        return {
            "model_name_or_path": Entry(before.model_name_or_path, "the stage before"),
            # What the stage before merged into the model is not in the adapter that it saved.
            "adapter_name_or_path": Entry([*before.merged_adapters, before.output_dir], "the stage before")
            if before.merged_adapters
            else Entry(before.output_dir, "the stage before"),
        }
    return {
        "model_name_or_path": Entry(before.output_dir, "the stage before"),
        # Whatever adapter the stage before began with is merged into what it saved.
        "adapter_name_or_path": Entry(None, "the stage before"),
    }


def _first_model(config: RunConfig) -> str:
    if config.adapters:
        raise ConfigError(
            "reference: first needs one model to compare with, but the first round starts from an adapter; merge it, "
            "or take reference: previous"
        )
    return config.model_name_or_path


def _topic(topic: type[Any], entries: Mapping[str, Entry], origin: str) -> Any:
    own = {key: entry for key, entry in entries.items() if key in topic.model_fields}
    try:
        return topic(**{key: entry.value for key, entry in own.items() if entry.value is not None})
    except ValidationError as error:
        raise ConfigError(*explain(error, own, topic, origin)) from error


def _unused(common: Mapping[str, Entry], used: set[str]) -> list[str]:
    return [
        f"{entry.where}: no stage of this pipeline has the key {key}"
        for key, entry in common.items()
        if key not in used and entry.value is not None
    ]
