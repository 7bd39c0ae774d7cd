"""Types that several packages share; this module imports neither torch nor other modules of palate."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant calls.

    Attributes:
        name: of the function.
        arguments: JSON text, usually of an object; the model's text if it is not valid JSON.
        id: referred to by the tool's result, if the row has one.
    """

    name: str
    arguments: str = "{}"
    id: str | None = None

    @property
    def value(self) -> Any:
        """The parsed arguments; the text itself if it is not JSON."""
        try:
            return json.loads(self.arguments)
        except (ValueError, RecursionError):
            return self.arguments


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, with everything that chat templates render.

    Attributes:
        role: of the speaker. Only `assistant` turns of a completion are trained on.
        content: the text; may be empty if there are tool calls.
        tool_calls: functions that the assistant calls after its text.
        reasoning_content: reasoning of the assistant before its text.
        name: of the speaker, or of the tool whose result this is.
        tool_call_id: of the call whose result this is.
        trained: False for an assistant turn that the row marks as context only.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning_content: str | None = None
    name: str | None = None
    tool_call_id: str | None = None
    trained: bool = True

    @property
    def is_plain(self) -> bool:
        """Whether it has role and content only."""
        return not (self.tool_calls or self.reasoning_content or self.name or self.tool_call_id)

    @property
    def is_empty(self) -> bool:
        """Whether it has neither text nor tool calls; reasoning alone is not an answer."""
        return not self.tool_calls and not self.content.strip()

    @property
    def text(self) -> str:
        """Reasoning, content and tool calls as one text, for comparisons."""
        if not (self.tool_calls or self.reasoning_content):
            return self.content
        calls = (
            json.dumps({"name": call.name, "arguments": call.value}, ensure_ascii=False) for call in self.tool_calls
        )
        return "\n".join(part for part in (self.reasoning_content, self.content, *calls) if part)


Messages: TypeAlias = tuple[Message, ...]


def as_turn(message: Message, *, arguments_as_text: bool = False) -> dict[str, Any]:
    """A message as `{role, content, …}`, with the keys of the OpenAI format.

    Args:
        arguments_as_text: whether the arguments of a tool call are JSON text, as in the OpenAI API, or an object, as
            most chat templates read them.
    """
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.is_plain:
        return turn
    if message.reasoning_content:
        turn["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                **({"id": call.id} if call.id is not None else {}),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments if arguments_as_text else call.value},
            }
            for call in message.tool_calls
        ]
    if message.name:
        turn["name"] = message.name
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def as_turns(messages: Messages, *, arguments_as_text: bool = False) -> list[dict[str, Any]]:
    """`as_turn` of each message."""
    return [as_turn(message, arguments_as_text=arguments_as_text) for message in messages]


def plain_text(text: str) -> str:
    """A text as comparisons read it: Unicode compatibility form, lower case, single spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split())


def prompt_key(prompt: Messages) -> str:
    """Equal for prompts with the same roles and texts; Unicode form, letter case and white space do not count."""
    return "\x1e".join(f"{message.role}\x1f{plain_text(message.text)}" for message in prompt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The fields of every training record.

    Attributes:
        id: file and 1-based line or row, such as `file.jsonl:17`; unique within a run.
        prompt: the conversation so far; may be empty only for plain text.
        source: name of the row's dataset, for counts and mixtures.
        weight: of the row in the loss, above 0.
        tools: JSON list of tool specifications for the chat template, if any.
        extra: columns that palate does not know, unchanged.
    """

    id: str
    prompt: Messages
    source: str = ""
    weight: float = 1.0
    tools: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration(Record):
    """A prompt and an answer to imitate (SFT)."""

    completion: Messages


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledCompletion(Record):
    """A prompt, one answer, and whether that answer is wanted (KTO)."""

    completion: Messages
    desirable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredCompletion(Record):
    """A prompt, one answer and its score in [0, 1] (reward regression)."""

    completion: Messages
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferencePair(Record):
    """A prompt with a better and a worse answer (the DPO family).

    Attributes:
        margin: by how much chosen is better, in the source's own units, if it has one.
        dimensions: per named dimension the scores (chosen, rejected), for multi-objective losses.
    """

    chosen: Messages
    rejected: Messages
    margin: float | None = None
    dimensions: Mapping[str, tuple[float, float]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking(Record):
    """A prompt with K ≥ 2 answers, best first (Plackett–Luce)."""

    completions: tuple[Messages, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollouts(Record):
    """A prompt with the answers sampled for it and the reward of each (PPO, GRPO, RLOO)."""

    completions: tuple[Messages, ...]
    rewards: tuple[float, ...]


AnyRecord: TypeAlias = Demonstration | LabelledCompletion | ScoredCompletion | PreferencePair | Ranking | Rollouts


def completions_of(record: Record) -> tuple[Messages, ...]:
    """The K completions in training order (a pair: chosen first; a ranking: best first); a prompt alone has none."""
    if isinstance(record, PreferencePair):
        return (record.chosen, record.rejected)
    if isinstance(record, Demonstration | LabelledCompletion | ScoredCompletion):
        return (record.completion,)
    return getattr(record, "completions", ())


def prompt_or_text(record: Record) -> Messages:
    """The record's prompt; for plain text, which has no prompt, the text."""
    return record.completion if isinstance(record, Demonstration) and not record.prompt else record.prompt


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that is not trained on, with the reason.

    Attributes:
        id: the row's id as in `Record.id`.
        reason: a short stable name for counts (`empty_chosen`, `equal`, `too_long` …).
        detail: a message for the user.
    """

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a model or an engine to one prompt.

    Attributes:
        text: the answer without markup.
        finish_reason: `stop` if the model ended its turn, `length` if it was truncated, else the engine's own word.
        tokens: number of tokens, end of turn included; None if an engine does not report it.
    """

    text: str
    finish_reason: str
    tokens: int | None = None


DatasetSpec: TypeAlias = str | Sequence[str] | Mapping[str, float]
"""A dataset as a config names it: one name, several (also with commas), or a mixture with weights."""


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """A dataset, which of its rows are read, and how.

    Attributes:
        dataset: a file, folder, hub id, registered or built-in name; a list of them; or a mapping of them to weights.
        dataset_dir: folder with `dataset_info.json`; relative paths are looked up there too.
        columns: palate's column name → the dataset's own.
        split, subset: of hub datasets and of folders with splits.
        max_samples: rows to read from the start of each source; None for all.
        max_dropped: largest share of a source's rows (0 to 1) that may be unusable, where records are loaded.
        labels: what the values of the label column mean: `{"0": "response_1"}`.
        prefer: which label decides in rows with a helpfulness and a safety label (`both`: only where they agree).
        ratings: how rated answers become pairs: best against worst, best against a random worse one, or all pairs.
        min_margin: rated pairs whose scores differ by less are left out; in the source's units.
        seed: of all random choices while reading.
    """

    dataset: DatasetSpec = ""
    dataset_dir: str | Path | None = None
    columns: Mapping[str, str] | None = None
    split: str | None = None
    subset: str | None = None
    max_samples: int | None = None
    max_dropped: float = 0.5
    labels: Mapping[str, str] = field(default_factory=dict)
    prefer: Literal["better", "safer", "both"] = "better"
    ratings: Literal["best_worst", "best_random", "all_pairs"] = "best_worst"
    min_margin: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, dataset: DatasetSpec | DatasetRequest, **choices: Any) -> DatasetRequest:
        """The request for a dataset that is given by name or as a request; `choices` are its other fields."""
        return replace(dataset, **choices) if isinstance(dataset, cls) else cls(dataset, **choices)  # type: ignore[arg-type]

    @classmethod
    def of_run(cls, config: Mapping[str, Any], dataset: DatasetSpec) -> DatasetRequest:
        """The request for a dataset of a run, read as the run's resolved config says."""
        keys = ("dataset_dir", "columns", "max_samples", "max_dropped", "labels", "seed")
        return cls(dataset, **{key: config[key] for key in keys if config.get(key) is not None})


@dataclass(frozen=True, slots=True)
class SourceReport:
    """How one source of a dataset was read.

    Attributes:
        name, path: in counts and mixtures, and its file, folder or hub id.
        format, confidence: the recognised format's name, and the share of the first rows that match it.
        rows_read, used: rows read, and those that gave at least one record.
        records: number of records; more than `used` if a row gives several.
        dropped_by_reason: rows that are not used, by reason; used + dropped = rows_read.
        unknown_columns: those that palate does not know; they are kept in `extra`.
        notices: counts of unusual properties of used rows, by name: answers left out of a ranking (`repeated_answer`),
            which of two answers won (`first_won`), answers that begin with their prompt, unread keys of turns.
        labels: how the label column was read, as `label: 0 → response_1 (6), 1 → response_2 (6)`; "" without one.
        label_values: number of rows by label value, for at most 256 different values.
        files: rows read of each file, if the source has several.
    """

    name: str
    path: str
    format: str
    confidence: float
    rows_read: int
    used: int
    records: int
    dropped_by_reason: Mapping[str, int]
    unknown_columns: tuple[str, ...]
    notices: Mapping[str, int]
    labels: str = ""
    label_values: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)


Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of a dataset by name: a value for each answer, None if its row lacks the column."""

RewardFunction: TypeAlias = Callable[..., Sequence[float | None]]
"""Scores answers: a reward model, a rule, a judge's scalar or a user's function. Higher is better; None is no score.

It is called with `prompts`, `completions` and those columns that its signature names (`data.scores.checked_scores`).
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's decision between two answers, shown as left and right.

    Attributes:
        outcome: the better side, `tie`, or `unparsed` if the judge's answer could not be read.
        reason: the judge's explanation, or the rule's name.
        probability_left: the judge's probability that left is better, if it gives one.
        dimensions: per dimension the scores (left, right), if it gives some.
        missing: whether the judge gave no reply at all, so that it may be asked again later; the outcome is `unparsed`
            and the reason says why.
        members: of a jury, the name and the verdict of each of its members.
    """

    outcome: Literal["left", "right", "tie", "unparsed"]
    reason: str = ""
    probability_left: float | None = None
    dimensions: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    missing: bool = False
    members: tuple[tuple[str, Verdict], ...] = ()


LEFT_SHARE: Mapping[str, float] = MappingProxyType({"left": 1.0, "right": 0.0, "tie": 0.5})
"""The left answer's share of a win by outcome; an outcome that decides nothing is not in it."""


class Judge(Protocol):
    """Compares two answers to the same prompt."""

    name: str

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """A verdict for each prompt; `columns` are those of the prompts' rows."""
        ...


@runtime_checkable
class EachJudge(Protocol):
    """A judge that takes long, and gives each verdict as soon as it has it. Its classes inherit `compare`."""

    def compare_each(
        self,
        prompts: Sequence[Messages],
        left: Sequence[str],
        right: Sequence[str],
        columns: Columns | None,
        decided: Callable[[int, Verdict], None],
    ) -> None:
        """Call `decided` for each verdict, in the order of their arrival."""
        ...

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """One verdict per prompt; `left` is shown first."""
        found: dict[int, Verdict] = {}
        self.compare_each(prompts, left, right, columns, found.__setitem__)
        return [found[index] for index in range(len(prompts))]
