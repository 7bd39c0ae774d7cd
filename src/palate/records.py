"""The nouns that cross rooms: conversations, records to learn from, and the protocols of what one room lends another.

Nothing here imports anything of ours but `errors`, and nothing imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant calls.

    Attributes:
        name: of the function.
        arguments: JSON text, usually of an object; where the model wrote no valid JSON, what it wrote.
        id: that a tool's result refers to, where the row has one.
    """

    name: str
    arguments: str = "{}"
    id: str | None = None

    @property
    def value(self) -> Any:
        """The arguments parsed; the text itself where it is no JSON."""
        try:
            return json.loads(self.arguments)
        except (ValueError, RecursionError):
            return self.arguments


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: everything that chat templates render.

    Attributes:
        role: who speaks. Only `assistant` turns of a completion are ever trained on.
        content: the text; may be empty beside tool calls.
        tool_calls: functions that the assistant calls in this turn, after its text.
        reasoning_content: what the assistant thinks before its text.
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
        """Whether role and content are all that is rendered."""
        return not (self.tool_calls or self.reasoning_content or self.name or self.tool_call_id)

    @property
    def is_empty(self) -> bool:
        """Whether it has neither text nor tool calls; reasoning alone is no answer."""
        return not self.tool_calls and not self.content.strip()

    @property
    def text(self) -> str:
        """Reasoning, content and tool calls as one text, for comparisons; the content where there is nothing else."""
        if not (self.tool_calls or self.reasoning_content):
            return self.content
        calls = (
            json.dumps({"name": call.name, "arguments": call.value}, ensure_ascii=False) for call in self.tool_calls
        )
        return "\n".join(part for part in (self.reasoning_content, self.content, *calls) if part)


Messages: TypeAlias = tuple[Message, ...]


def as_turn(message: Message, *, arguments_as_text: bool = False) -> dict[str, Any]:
    """A message as `{role, content, …}`, with the keys of the OpenAI format for what else it has.

    Args:
        arguments_as_text: whether a tool call's arguments are JSON text, as in the OpenAI API, or an object, as chat
            templates want them.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What every training record has.

    Attributes:
        id: where the row came from, `file.jsonl:17` (1-based line or row), unique within a run.
        prompt: the conversation so far; may be empty only for plain text.
        source: name of the dataset the row belongs to, for counts and mixtures.
        weight: how much the row counts in the loss, above 0.
        tools: JSON list of tool specifications that the chat template is given, if any.
        extra: columns that palate does not know, kept as they were.
    """

    id: str
    prompt: Messages
    source: str = ""
    weight: float = 1.0
    tools: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration(Record):
    """A prompt and the one answer to imitate (SFT)."""

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
        margin: by how much chosen is better, in the source's own units, where the source says so.
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


def completions_of(record: AnyRecord) -> tuple[Messages, ...]:
    """The K completions of a record in training order (a pair: chosen first; a ranking: best first)."""
    if isinstance(record, PreferencePair):
        return (record.chosen, record.rejected)
    if isinstance(record, Ranking | Rollouts):
        return record.completions
    return (record.completion,)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that is not trained on, and why.

    Attributes:
        id: the row's id as in `Record.id`.
        reason: a short stable name that counts are made by (`empty_chosen`, `equal`, `too_long` …).
        detail: what was seen, for a person.
    """

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model or an engine wrote to one prompt.

    Attributes:
        text: the answer without markup.
        finish_reason: `stop` where the model ended its turn, `length` where it was cut off, else the engine's own word.
        tokens: how many it took, the end of the turn included; None where an engine does not say.
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


class TokenCounter(Protocol):
    """Counts tokens of texts the way a model's tokenizer does; lent to `data` by whoever has a tokenizer."""

    def __call__(self, texts: Sequence[str]) -> list[int]: ...


class Sampler(Protocol):
    """Generates answers: lent to `data.augment`, the demo and online training by whoever has a model."""

    def sample(
        self, prompts: Sequence[Messages], k: int, *, seed: int, tools: Sequence[str | None] | None = None
    ) -> list[list[str]]:
        """K answers for each prompt, in the order of the prompts; `tools` as in `Record`, one for each prompt."""
        ...


Columns: TypeAlias = Mapping[str, Sequence[Any]]
"""Columns of a dataset by name: a value for each answer, None where its row lacks the column."""

RewardFunction: TypeAlias = Callable[..., Sequence[float | None]]
"""Scores answers: a reward model, a rule, a judge's scalar or a user's function. Higher is better, None is no vote.

It is called with `prompts`, `completions` and those columns that its signature names (`data.scores.checked_scores`).
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says of two answers shown as left and right.

    Attributes:
        outcome: the side that is better, `tie`, or `unparsed` when the judge's words could not be read.
        reason: the judge's own words, or the rule's name.
        probability_left: the judge's own probability that left is better, where it gives one.
    """

    outcome: Literal["left", "right", "tie", "unparsed"]
    reason: str = ""
    probability_left: float | None = None


LEFT_SHARE: Mapping[str, float] = MappingProxyType({"left": 1.0, "right": 0.0, "tie": 0.5})
"""The left answer's share of a win by outcome; an outcome that decides nothing is not in it."""


class Judge(Protocol):
    """Compares two answers to the same prompt."""

    name: str

    def compare(
        self, prompts: Sequence[Messages], left: Sequence[str], right: Sequence[str], columns: Columns | None = None
    ) -> list[Verdict]:
        """A verdict for each question; `columns` are those of the questions' rows."""
        ...
