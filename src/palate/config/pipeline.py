"""Pipelines: several runs in one file, as `stages:` (each from the one before) or `rounds:` (one stage repeated)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import model_validator

from palate.config.base import Fields, setting
from palate.config.explain import validated
from palate.config.load import PIPELINE_KEYS, config_from_entries, output_folder, overridden, wants_overwriting
from palate.config.reader import ConfigEntry, as_yaml, read_config_file, read_override
from palate.config.run import STAGES, RunConfig
from palate.config.stages.rollout import check_engine
from palate.config.values import NamedOrPath, PathText
from palate.errors import ConfigError

_T = TypeVar("_T", bound=Fields)


class SamplingFields(Fields):
    """Pairs of a round: the policy answers prompts, and a judge compares the answers."""

    prompts: PathText = setting(..., "Prompts that the policy answers at the start of each round.", min_length=1)
    judge: NamedOrPath = setting(..., "Judge of the answers, as for `palate judge --judge`.", min_length=1)
    prompts_per_round: int | None = setting(None, "Number of prompts drawn for a round.", shown="all", ge=1)
    candidates: int = setting(4, "Number of answers to each prompt.", ge=2)
    select: Literal["all", "extremes"] = setting(
        "extremes", "Pairs of a prompt: all that the judge decides, or best against worst."
    )
    candidate_max_new_tokens: int = setting(128, "Maximum length of an answer, in tokens.", ge=1)
    candidate_temperature: float = setting(1.0, "Sampling temperature.", gt=0)
    candidate_url: str | None = setting(
        None,
        "URL of an OpenAI-compatible engine that samples the answers, up to /v1; several as URL,URL=2.",
        shown="palate samples in this process",
    )
    candidate_model: str | None = setting(None, "The engine's name for the policy.", shown="none")
    candidate_sync: NamedOrPath | None = setting(
        None,
        "How the engine gets the policy before each round: module:function or file.py:function, called with the folder "
        "of the round's starting model and candidate_model; or none, which leaves the engine's model as it is.",
        shown="none; needed with candidate_url",
    )

    @model_validator(mode="after")
    def _check_engine(self) -> Any:
        check_engine(self, "candidate", adapters=False)
        return self


class DriftFields(Fields):
    """Drift: measured after each stage or round against the first model of the pipeline."""

    drift_prompts: PathText | None = setting(None, "Fixed prompts for the KL.", shown="those of the first dataset")
    drift_samples: int = setting(32, "Number of those prompts to use; 0 measures nothing.", ge=0)
    drift_max_new_tokens: int = setting(64, "Maximum length of the answers for the KL, in tokens.", ge=1)


class RoundFields(Fields):
    """Reference of rounds: the model that each round is compared with."""

    reference: Literal["previous", "first"] = setting(
        "previous", "Reference of a round: the model it starts from, or the one the first round started from."
    )


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of a pipeline or sweep.

    Attributes:
        name: `1-sft`, `round-2`; its folder in the pipeline's.
        config: its config; in a pipeline it starts from the result of the run before.
        sampling: how the round makes its pairs, or None.
    """

    name: str
    config: RunConfig
    sampling: SamplingFields | None = None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Runs in their order.

    Attributes:
        kind: `stages` or `rounds`, as written.
        output_dir: folder of the pipeline, with a folder for each run.
        runs: the runs, each from the one before.
        drift: measurements after each run.
        overwrite: whether to start again and delete existing runs.
        notices: lines about the config for the user.
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
    """Read a pipeline and check the config of every run.

    Keys on the level of `stages` or `rounds` apply to every run that has them; a stage or round overrides them.

    Raises:
        ConfigError: a line for each wrong key, with file and line, stage, and remedy.
    """
    origin = str(path)
    given = overridden(read_config_file(path), overrides)
    entries, notices = given.entries, tuple(given.lines())
    kind = next((key for key in PIPELINE_KEYS if key in entries), "")
    if all(key in entries for key in PIPELINE_KEYS):
        raise ConfigError(f"{entries['rounds'].where}: stages and rounds cannot both be given; keep one of them")
    folder = output_folder(entries, origin)
    drift, rounds = _topic(DriftFields, entries, origin), _topic(RoundFields, entries, origin)
    pipelines_own = (
        *PIPELINE_KEYS,
        *("output_dir", "overwrite_output_dir", "resume_from_checkpoint"),
        *(*DriftFields.model_fields, *RoundFields.model_fields),
    )
    common = {key: entry for key, entry in entries.items() if key not in pipelines_own}
    parts = _parts(kind, entries[kind])
    plan = _Plan(folder)
    if kind == "stages":
        if "reference" in entries:
            raise ConfigError(f"{entries['reference'].where}: reference belongs to rounds; a stage may set ref_model")
        _plan_stages(parts, common, plan)
    else:
        _plan_rounds(parts, common, plan, rounds.reference, origin)
    if plan.errors or given.refused:
        raise ConfigError(*given.refused.values(), *dict.fromkeys(plan.errors))
    notices = (*notices, *dict.fromkeys(plan.notices))
    return Pipeline(kind, folder, tuple(plan.runs), drift, wants_overwriting(entries), notices)


def _parts(kind: str, entry: ConfigEntry) -> list[dict[str, ConfigEntry]]:
    """The keys of each stage or round; `rounds: 3` is three rounds without keys."""
    value = entry.value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        value = [{}] * value
    if not isinstance(value, list) or not value or not all(isinstance(part, Mapping) for part in value):
        forms = "a number or a list of mappings" if kind == "rounds" else "a list of mappings"
        raise ConfigError(f"{entry.where}: {kind} must be {forms}, not {as_yaml(value)}")
    return [
        {str(key): ConfigEntry(given, f"{entry.where} (number {number})") for key, given in part.items()}
        for number, part in enumerate(value, 1)
    ]


@dataclass(slots=True)
class _Plan:
    """The runs of a pipeline that are resolved so far, with notices and error lines."""

    folder: Path
    runs: list[PlannedRun] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(
        self, name: str, given: Mapping[str, ConfigEntry], origin: str, sampling: SamplingFields | None = None
    ) -> RunConfig | None:
        """Resolve a run in the folder `name`; None, and lines in `errors`, if it is wrong."""
        given = {**given, "output_dir": ConfigEntry(str(self.folder / name), "output_dir")}
        if self.errors:  # after a wrong run the starting model is unknown
            given = {"model_name_or_path": ConfigEntry("the run before", "the run before"), **given}
        try:
            loaded = config_from_entries(given, origin=origin)
        except ConfigError as error:
            self.errors += error.lines
            return None
        self.notices += loaded.notices
        self.runs.append(PlannedRun(name, loaded.config, sampling))
        return loaded.config


def _plan_stages(parts: Sequence[Mapping[str, ConfigEntry]], common: Mapping[str, ConfigEntry], plan: _Plan) -> None:
    policy: RunConfig | None = None
    used: set[str] = set()
    for number, part in enumerate(parts, 1):
        stage = part.get("stage", common.get("stage"))
        if stage is None or stage.value not in STAGES:
            where = next(iter(part.values())).where if part else f"stages, number {number}"
            plan.errors.append(f"{where}: names no stage; add `stage: sft` (one of {', '.join(STAGES)})")
            continue
        fields = STAGES[str(stage.value)].model_fields
        shared = {key: entry for key, entry in common.items() if key in fields}
        used.update(shared)
        given = {**shared, **part, **_start(part, policy)}
        config = plan.add(f"{number}-{stage.value}", given, f"stages, number {number}")
        if config is not None and stage.value != "rm":  # a reward model is not a policy to continue with
            policy = config
    plan.errors += [
        f"{entry.where}: no stage of this pipeline has the key {key}"
        for key, entry in common.items()
        if key not in used and entry.value is not None
    ]


def _plan_rounds(
    parts: Sequence[Mapping[str, ConfigEntry]],
    common: Mapping[str, ConfigEntry],
    plan: _Plan,
    reference: str,
    origin: str,
) -> None:
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
            given["dataset"] = ConfigEntry(str(plan.folder / f"{name}-data" / "pairs.jsonl"), "prompts")
        given |= _start(part, before)
        if reference == "first" and plan.runs:
            given["ref_model"] = ConfigEntry(_first_model(plan.runs[0].config), "reference")
        before = plan.add(name, given, f"rounds, number {number}", sampling) or before


def _start(part: Mapping[str, ConfigEntry], before: RunConfig | None) -> dict[str, ConfigEntry]:
    """The keys that make a run start from the result of the one before, unless it names a model itself."""
    if before is None or "model_name_or_path" in part or "adapter_name_or_path" in part:
        return {}
    model, adapter = before.output_dir, None  # adapters that the run before started with are merged into its result
    if before.finetuning_type == "lora":
        # Adapters merged by the run before are not part of the adapter that it saved.
        adapters = [*before.merged_adapters, before.output_dir]
        model, adapter = before.model_name_or_path, adapters if before.merged_adapters else before.output_dir
    return {
        "model_name_or_path": ConfigEntry(model, "the stage before"),
        "adapter_name_or_path": ConfigEntry(adapter, "the stage before"),
    }


def _first_model(config: RunConfig) -> str:
    if config.adapters:
        raise ConfigError(
            "reference: first needs a single model to compare with, but the first round starts from an adapter; merge "
            "it, or write reference: previous"
        )
    return config.model_name_or_path


def _topic(topic: type[_T], entries: Mapping[str, ConfigEntry], origin: str) -> _T:
    """The keys of one topic; a key that is null counts as missing."""
    given = {key: entry for key, entry in entries.items() if key in topic.model_fields and entry.value is not None}
    return validated(topic, given, origin)
