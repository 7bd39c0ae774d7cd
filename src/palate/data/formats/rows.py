"""What every format shares: cells of a row, checks of prompts and completions, and the records made of them."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from palate.data.turns.cells import literal
from palate.data.turns.conversations import split_answers
from palate.data.turns.messages import (
    USUAL_TAGS,
    RowError,
    Tags,
    assistant,
    excerpt,
    is_transcript,
    is_turn,
    is_turns,
    merged,
    read_transcript,
    read_turn,
    read_turns,
    role_of,
    text,
    user,
    with_system,
)
from palate.records import (
    DatasetRequest,
    Demonstration,
    LabelledCompletion,
    Messages,
    PreferencePair,
    Ranking,
    Record,
    ScoredCompletion,
)

if TYPE_CHECKING:
    from palate.data.formats.labels import Coding

Row: TypeAlias = Mapping[str, Any]

PROMPT_NAMES = ("prompt", "question", "instruction", "query")
COMPLETION_NAMES = ("completion", "response", "answer", "output")
PROMPT_REPEATED = "prompt_repeated"
"""Notice of a row whose answers began with the text of the prompt, which was taken off."""
BEGINS_WITH_PROMPT = "answers_begin_with_prompt"
"""Notice of a row whose answers begin with the text of the prompt, in a source where most do not."""
_NO_GREETING = 10
"""Characters from which a prompt is no greeting, which an answer rightly begins with ("Hello")."""
NOT_HELD = ("image", "images", "video", "videos", "audio", "audios")
"""Columns that belong to the prompt or the answers and are no text."""
SHARED_COLUMNS = ("system", "tools", "weight")
"""Columns that mean the same in every format."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of one source are read.

    Attributes:
        tags: how turns are written.
        prefer, ratings, min_margin, seed, labels: as in `DatasetRequest`.
        coding: what the label values mean in this source, found from all its rows.
    """

    tags: Tags = field(default_factory=Tags)
    prefer: Literal["better", "safer", "both"] = "better"
    ratings: Literal["best_worst", "best_random", "all_pairs"] = "best_worst"
    min_margin: float = 0.0
    seed: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    coding: Coding | None = None

    @classmethod
    def of(cls, request: DatasetRequest, tags: Tags = USUAL_TAGS) -> Reading:
        """The reading that a request asks for."""
        return cls(tags, request.prefer, request.ratings, request.min_margin, request.seed, request.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedAnswers(Record):
    """A prompt with K answers and a score for each, in no order; made into pairs or a ranking by a stated rule.

    Attributes:
        completions: the K answers.
        scores: their scores, in the source's units, higher is better.
        dimensions: per answer its scores by named dimension.
        highest: the top of the source's scale, where it is known.
    """

    completions: tuple[Messages, ...]
    scores: tuple[float, ...]
    dimensions: tuple[Mapping[str, float], ...] = ()
    highest: float | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a row's record carries whatever its format: id, source and unread columns; the shared cells are read here.

    Attributes:
        id, source, row, extra: as in `Record`; `row` has all of its columns.
        notices: short names of what is worth counting about a row that is used all the same.
        repeats_prompt: whether the answers of this source are texts that begin with the whole text of their prompt.
        labels: the label values that were read.
    """

    id: str
    source: str
    row: Row
    extra: Mapping[str, Any]
    notices: list[str] = field(default_factory=list)
    repeats_prompt: bool = False
    labels: list[Any] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """The fields of `Record` but the prompt."""
        shown = next((name for name in NOT_HELD if holds_something(self.row.get(name))), None)
        if shown is not None:
            raise RowError("row_not_held", f"has {shown!r}, which palate cannot hold; it reads text only")
        weight = number(self.row.get("weight"), "weight")
        if weight is not None and weight <= 0:
            raise RowError("bad_weight", f"weight is {weight:g}; it must be above 0")
        return {
            "id": self.id,
            "source": self.source,
            "weight": 1.0 if weight is None else weight,
            "tools": read_tools(self.row.get("tools")),
            "extra": self.extra,
        }


def present(row: Row, names: Iterable[str]) -> str | None:
    """The first of these columns that the row has, None if it has none."""
    return next((name for name in names if name in row), None)


def cell(row: Row, *names: str) -> Any:
    """The value of the first of these columns that the row has."""
    name = present(row, names)
    if name is None:
        raise RowError("missing_key", f"has no {' or '.join(repr(name) for name in names)}")
    return row[name]


def holds_something(value: Any) -> bool:
    """Whether a cell is neither null nor empty, nor made of such."""
    if isinstance(value, Mapping):
        return any(map(holds_something, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_something, value))
    return value is not None and value is not False and value != ""


def number(value: Any, name: str) -> float | None:
    """A number, or a text that holds one; None for null and empty text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise RowError("not_a_number", f"{name} is {excerpt(value)}")
    return found


def soft_number(value: Any) -> float | None:
    """As `number`, but None for whatever is none: for scores a row may have beside its labels."""
    try:
        return number(value, "")
    except RowError:
        return None


def prompt_of(row: Row, value: Any, name: str, reading: Reading) -> Messages:
    """The prompt cell (text, HH transcript, one turn, or turns) as a conversation, the row's system text in front."""
    if isinstance(value, str) and value.startswith("["):
        listed = literal(value)
        if listed and isinstance(listed, list) and all(isinstance(one, str) for one in listed):
            raise RowError("list_as_text", f"{name} is a list of {len(listed)} texts written as text: {excerpt(value)}")
    return checked_prompt(with_system(row.get("system"), conversation(value, name, "user", reading)))


def conversation(value: Any, name: str, speaker: Literal["user", "assistant"], reading: Reading) -> Messages:
    """A cell as turns: text is one turn of `speaker`, an object one turn, a list several.

    A prompt that is an HH transcript is its turns, without the empty `Assistant:` at its end.
    """
    if isinstance(value, str):
        said = text(value, name)
        if speaker == "user" and is_transcript(said):
            turns = read_transcript(said, name)
            return merged(turns if turns[-1].content or turns[-1].role != "assistant" else turns[:-1])
        return user(said) if speaker == "user" else assistant(said)
    if is_turn(value, reading.tags):
        return (read_turn(value, name, reading.tags),)
    if isinstance(value, list | tuple):
        if not value:
            raise RowError(f"empty_{name}", f"{name} is an empty list")
        return read_turns(value, name, reading.tags)
    text(value, name)  # null, a number … : says so
    raise RowError("not_text", f"{name} is a {type(value).__name__}")


def is_whole_conversation(value: Any, reading: Reading) -> bool:
    """Whether a list of turns starts before the answer, so that it contains its own prompt."""
    return is_turns(value, reading.tags) and role_of(value[0], reading.tags) in ("system", "user")


def checked_prompt(messages: Messages) -> Messages:
    """The prompt, if an answer can follow it."""
    if not any(message.role in ("user", "tool") for message in messages) or messages[-1].is_empty:
        raise RowError("empty_prompt", "nothing is asked: the prompt's last turn is empty or it has no user turn")
    if messages[-1].role == "assistant":
        raise RowError("prompt_ends_with_assistant", f"the prompt ends with an answer: {excerpt(messages[-1].text)}")
    if messages[-1].role == "system":
        raise RowError("prompt_ends_with_system", f"the prompt ends with: {excerpt(messages[-1].content)}")
    return messages


def checked_completion(messages: Messages, name: str) -> Messages:
    """The completion, if it ends with an assistant turn that says or calls something, and a turn of it is trained."""
    if not messages or messages[-1].role != "assistant":
        seen = messages[-1].role if messages else "nothing"
        raise RowError("no_assistant_turn", f"{name} does not end with an assistant turn but with {seen}")
    if messages[-1].is_empty:
        only = " but for its reasoning" if messages[-1].reasoning_content else ""
        raise RowError(f"empty_{name}", f"{name} is empty{only}")
    if not any(message.trained for message in messages if message.role == "assistant"):
        raise RowError(
            "not_trained", f"{name} has no assistant turn that its flags (loss_weight, train …) leave to train"
        )
    return messages


def same_text(left: Messages, right: Messages) -> bool:
    """Whether two answers say and call the same: equal up to Unicode form, white space and a closing full stop."""
    if len(left) != len(right):
        return False
    return all(a.role == b.role and _plain(a.text) == _plain(b.text) for a, b in zip(left, right, strict=True))


def without_prompt(
    origin: Origin, prompt: Messages, answers: Sequence[Messages], names: Sequence[str] = ()
) -> tuple[Messages, tuple[Messages, ...]]:
    """The prompt and the answers without it, where they repeat it; every kind of record goes through here.

    Args:
        prompt: as the row gives it; empty where the answers alone say what it is.
        answers: as the row gives them.
        names: what messages call them.
    """
    prompt, answers, repeated = split_answers(prompt, answers, names, repeats_prompt=origin.repeats_prompt)
    if repeated and origin.repeats_prompt:
        origin.notices.append(PROMPT_REPEATED)
    elif repeated and len(prompt[-1].content.strip()) >= _NO_GREETING:
        origin.notices.append(BEGINS_WITH_PROMPT)
    return with_system(origin.row.get("system"), prompt), answers


def pair(
    origin: Origin,
    prompt: Messages,
    chosen: Messages,
    rejected: Messages,
    *,
    margin: float | None = None,
    dimensions: Mapping[str, tuple[float, float]] | None = None,
) -> PreferencePair:
    """A checked preference pair; an answer that repeats the prompt loses it, and so everywhere below."""
    prompt, (chosen, rejected) = without_prompt(origin, prompt, (chosen, rejected), ("chosen", "rejected"))
    prompt = checked_prompt(prompt)
    chosen = checked_completion(chosen, "chosen")
    rejected = checked_completion(rejected, "rejected")
    if same_text(chosen, rejected):
        how = "" if chosen == rejected else " but for white space or a closing full stop"
        raise RowError("equal", f"chosen and rejected are equal{how}: {excerpt(chosen[-1].text)}")
    fields = origin.fields()
    return PreferencePair(
        **fields, prompt=prompt, chosen=chosen, rejected=rejected, margin=margin, dimensions=dimensions
    )


def demonstration(origin: Origin, prompt: Messages, completion: Messages) -> Demonstration:
    """A checked demonstration."""
    prompt, (completion,) = without_prompt(origin, prompt, (completion,))
    return Demonstration(
        **origin.fields(), prompt=checked_prompt(prompt), completion=checked_completion(completion, "completion")
    )


def labelled(origin: Origin, prompt: Messages, completion: Messages, desirable: bool) -> LabelledCompletion:
    """A checked completion with its label."""
    prompt, (completion,) = without_prompt(origin, prompt, (completion,))
    completion = checked_completion(completion, "completion")
    return LabelledCompletion(
        **origin.fields(), prompt=checked_prompt(prompt), completion=completion, desirable=desirable
    )


def scored(origin: Origin, prompt: Messages, completion: Messages, score: Any) -> ScoredCompletion:
    """A checked completion with its score in [0, 1]."""
    value = number(score, "score")
    if value is None:
        raise RowError("missing_score", "score is null")
    if not 0 <= value <= 1:
        raise RowError("score_out_of_range", f"score is {value:g}; bring scores to 0 … 1 first")
    prompt, (completion,) = without_prompt(origin, prompt, (completion,))
    completion = checked_completion(completion, "completion")
    return ScoredCompletion(**origin.fields(), prompt=checked_prompt(prompt), completion=completion, score=value)


def ranking(origin: Origin, prompt: Messages, answers: Sequence[Messages]) -> Ranking:
    """A checked ranking, best first. Empty answers and repetitions of a better one are left out of it."""
    kept: list[Messages] = []
    prompt, answers = without_prompt(origin, prompt, answers)
    for answer in answers:
        if not answer or answer[-1].is_empty:
            origin.notices.append("empty_answer")
        elif any(same_text(answer, better) for better in kept):
            origin.notices.append("repeated_answer")
        else:
            kept.append(checked_completion(answer, "answer"))
    if len(kept) < 2:
        raise RowError("too_few_answers", f"{len(kept)} different answers that are not empty; a ranking needs 2")
    return Ranking(**origin.fields(), prompt=checked_prompt(prompt), completions=tuple(kept))


def _plain(content: str) -> str:
    if not content.isascii():
        content = unicodedata.normalize("NFKC", content)
    return " ".join(content.split()).strip(" .。")


def read_tools(value: Any) -> str | None:
    """Tool specifications as a JSON list. Some files have each of them as text, so that no nulls are padded in."""
    if value is None or value == "" or value == []:
        return None
    listed = literal(value) if isinstance(value, str) else value
    if isinstance(listed, list) and listed and all(isinstance(tool, str) for tool in listed):
        parsed = [literal(tool) for tool in listed]
        if all(isinstance(tool, dict) for tool in parsed):
            return json_text(parsed, "tools")
    return text(value, "tools") if isinstance(value, str) else json_text(value, "tools")


def json_text(value: Any, name: str) -> str:
    """A value as JSON text, so that a column of objects survives as text."""
    return text(json.dumps(value, ensure_ascii=False, default=str), name)
