"""The config of a loop, `loop.yaml`: what each step of a cycle does, on which day, and what needs a person."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from palate.config.base import Fields
from palate.config.explain import validated
from palate.config.reader import read_config_file
from palate.errors import ConfigError
from palate.feedback.judges.load import API
from palate.loop.canary import CanaryFields
from palate.loop.sources import SOURCE_KINDS

Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
PEOPLE: Final = "people"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}\Z")
_OPTIONS = ("from-interactions", "generate", "judge", "train", "winrate", "must-pass")


def _or_none(written: Any) -> BeforeValidator:
    """`none` as a value of a key of the type `written`."""
    return BeforeValidator(
        lambda value: None if value == "none" else value, json_schema_input_type=written | Literal["none"] | None
    )


def _on_or_after(day: date, weekday: Day) -> date:
    return day + timedelta(days=(DAYS.index(weekday) - day.weekday()) % len(DAYS))


class ScheduleFields(Fields):
    """The weekday, in UTC, before which a step does not begin. A step that is late begins at once."""

    collect: Day = Field("mon", description="Collecting, sampling and answering.")
    annotate: Day = Field("tue", description="Votes of people and judges.")
    train: Day = Field("wed", description="Training.")
    evaluate: Day = Field("thu", description="Evaluation and gate.")
    deploy: Day = Field("fri", description="Deployment of a candidate that passed.")

    def first_day(self, begun: datetime, before: date | None) -> date:
        """The day of a cycle's collecting: the first of its weekday, not before the cycle began, in UTC.

        Args:
            before: collecting day of the cycle before; this one is later.
        """
        earliest = begun.astimezone(UTC).date()
        if before is not None:
            earliest = max(earliest, before + timedelta(days=1))
        return _on_or_after(earliest, self.collect)

    def not_before(self, step: str, collect: date) -> datetime | None:
        """When a step may begin at the earliest, midnight UTC; None if it has no day of its own.

        Each day is the first of its weekday on or after that of the step before.
        """
        day = collect
        for name in ScheduleFields.model_fields:
            if name != "collect":
                day = _on_or_after(day, getattr(self, name))
            if name == step:
                return datetime.combine(day, time(), UTC)
        return None


class CollectFields(Fields):
    """The prompts of a cycle: interactions that the gateway recorded, or a file."""

    at_least: int = Field(
        200, ge=1, description="Complete interactions with consent and texts for which collecting waits."
    )
    sample: int = Field(300, ge=1, description="Prompts to draw for annotation; the probability of each is stored.")
    settle_minutes: float = Field(
        10,
        ge=0,
        description="Age from which an interaction is collected, so that its answer and feedback are complete.",
    )
    prompts: str | None = Field(None, description="Prompts to sample from, in place of interactions.")


class CandidateFields(Fields):
    """The answers that are compared. The served answer of an interaction is one of them."""

    k: int = Field(2, ge=2, description="Answers to each prompt.")
    temperature: float = Field(1.0, gt=0, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling.")
    max_new_tokens: int = Field(256, ge=1, description="Longest answer, in tokens.")


class PeopleFields(Fields):
    """What people are asked, and how long the cycle waits for them."""

    votes_per_item: int = Field(1, ge=1, description="Votes of different people on each comparison.")
    quota: float = Field(0.95, gt=0, le=1, description="Share of the wanted votes with which the cycle goes on.")
    days: float = Field(1, gt=0, description="Days after which it goes on with the votes that there are.")


class AnnotateFields(Fields):
    """Who compares the answers: people, a judge, or both."""

    people: Annotated[PeopleFields | None, _or_none(PeopleFields)] = Field(None, description="Ask people.")
    judge: Annotated[str | None, _or_none(str)] = Field(None, description="Judge, as `palate judge --judge` has it.")

    @model_validator(mode="after")
    def _check(self) -> AnnotateFields:
        if self.people is None and self.judge is None:
            raise ValueError("annotate names neither people nor a judge; write `people: {}` or `judge: openai:MODEL`")
        return self


class EvaluateFields(Fields):
    """What the gate's evidence is measured with. Prompts, decoding and margins are in the gate's config."""

    judge: str | None = Field(
        None,
        description="Judge of the win rate, as `palate eval winrate --judge` has it. Default: the gate's `judge`, "
        "without the part of its prompt.",
    )
    people: PeopleFields = Field(PeopleFields.model_validate({}), description="Their votes, with the judge `people`.")
    card: str | None = Field(None, description="The judge's card, of `palate judge calibrate`.")
    benchmarks: dict[str, str | list[str] | None] = Field(
        {}, description="Benchmark → its data, for every guard of the gate; null: from the hub."
    )
    must_pass: str | None = Field(None, description="Must-pass prompts, as `palate eval must-pass` reads them.")


class LoopFields(Fields):
    """The keys of a loop's config file."""

    name: str = Field(description="Name of the loop: letters, digits, - and _.")
    store: str | None = Field(None, description="Database. Default: PALATE_STORE, else sqlite:///palate.db.")
    folder: str = Field("cycles", description="Folder of the cycles.")
    alias: str = Field("production", description="Alias whose version is the incumbent, and which deploying moves.")
    schedule: Annotated[ScheduleFields | None, _or_none(ScheduleFields)] = Field(
        ScheduleFields.model_validate({}), description="Weekdays; `none`: no step waits."
    )
    collect: CollectFields = Field(CollectFields.model_validate({}), description="Where the prompts come from.")
    candidates: CandidateFields = Field(
        CandidateFields.model_validate({}), description="The answers that are compared."
    )
    annotate: AnnotateFields = Field(description="Who compares the answers.")
    sources: dict[str, float] = Field(
        {"people": 1.0, "judge": 1.0, "edits": 1.0, "choices": 1.0},
        description="Weight of each source of preferences: people, judge, edits, choices, thumbs (KTO only), datasets.",
    )
    train: str = Field(description="Config of `palate train`: a run, or a pipeline with stages or rounds.")
    gate: str = Field(description="Config of `palate loop gate`.")
    evaluate: EvaluateFields = Field(
        EvaluateFields.model_validate({}), description="How the gate's evidence is measured."
    )
    canary: Annotated[CanaryFields | None, _or_none(CanaryFields)] = Field(
        None, description="Share of people who get the candidate first; none: nobody."
    )
    deploy: Literal["person", "on_pass"] = Field(
        "person", description="Whether a person must sign a PASS, or a PASS alone deploys."
    )
    force_days: float = Field(
        3, ge=0, description="Days in which a person may force a candidate that did not pass; then the cycle ends."
    )
    seed: int = Field(42, ge=0, description="Seed of samples, answers and orders.")
    options: dict[str, str] = Field(
        {},
        description="More options of a command: from-interactions, generate, judge, train, winrate, must-pass or "
        "`bench NAME`, as `judge: --max-usd 5`.",
    )

    @field_validator("options", mode="after")
    @classmethod
    def _split(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name not in _OPTIONS and not name.startswith("bench "):
                raise ValueError(f"options: {name} is no command of a cycle; it has {', '.join(_OPTIONS)}, bench NAME")
            try:
                shlex.split(text)
            except ValueError as error:
                raise ValueError(f"options: {name}: {text}: {error}") from error
        return value

    @model_validator(mode="after")
    def _check_together(self) -> LoopFields:
        if not _NAME.match(self.name):
            raise ValueError("name must be letters, digits, - and _, at most 60, as it is part of campaigns' names")
        wrong = next((name for name, weight in self.sources.items() if not 0 < weight < math.inf), None)
        if wrong is not None:
            raise ValueError(f"sources: the weight of {wrong} must be above 0; leave the source out instead")
        used = {"people": self.annotate.people is not None, "judge": self.annotate.judge is not None}
        silent = [name for name, is_used in used.items() if is_used and name not in self.sources]
        if silent:
            raise ValueError(f"sources has no weight for {silent[0]}, whom annotate asks; add `{silent[0]}: 1.0`")
        if self.collect.prompts is not None and "thumbs" in self.sources:
            raise ValueError("sources: thumbs come from interactions, and collect has prompts; leave thumbs out")
        return self

    def more_options(self, command: str) -> list[str]:
        """The words of `options` for a command."""
        return shlex.split(self.options.get(command, ""))

    def judge_of(self, gate_judge: str) -> str:
        """The judge of the win rate, as `palate eval winrate --judge` has it."""
        if self.evaluate.judge is not None:
            return self.evaluate.judge
        return gate_judge.rpartition("/")[0] if gate_judge.startswith(API) else gate_judge

    @property
    def imported(self) -> list[str]:
        """The sources that no cycle makes, as datasets."""
        return [name for name in self.sources if name not in SOURCE_KINDS]


def load_loop_config(path: str | Path) -> LoopFields:
    """Read a loop's config.

    Raises:
        ConfigError: a line for each wrong key, with file and line.
    """
    return validated(LoopFields, read_config_file(path), str(path))


def stored_config(values: Mapping[str, Any]) -> LoopFields:
    """The config that a cycle began with, from its ledger.

    Raises:
        ConfigError: this version of palate reads it otherwise.
    """
    try:
        return LoopFields.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"the config that the cycle began with no longer fits this palate ({where}: {first['msg']}); end the cycle "
            "with `palate loop abandon`"
        ) from error
