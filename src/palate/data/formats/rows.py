"""Shared by all formats: the cells of a row, checks of prompts and completions, and building records."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from palate.data.turns.cells import RowError, excerpt, literal, text
from palate.data.turns.conversations import split_answers
from palate.data.turns.messages import (
    USUAL_TAGS,
    Tags,
    is_transcript,
    is_turn,
    is_turns,
    read_transcript_prompt,
    read_turn,
    read_turns,
    role_of,
    with_system,
)
from palate.records import DatasetRequest, Message, Messages, PreferencePair, Ranking, Record, ScoredCompletion

if TYPE_CHECKING:
    from palate.data.formats.labels import Coding

Row: TypeAlias = Mapping[str, Any]
R = TypeVar("R", bound=Record)

PROMPT_NAMES = ("prompt", "question", "instruction", "query")
COMPLETION_NAMES = ("completion", "response", "answer", "output")
PROMPT_REPEATED = "prompt_repeated"
"""Notice: the answers began with the text of the prompt, which was removed."""
BEGINS_WITH_PROMPT = "answers_begin_with_prompt"
"""Notice: the answers begin with the text of the prompt, unlike in most rows of the source."""
_MIN_PROMPT = 10
"""Characters; an answer may begin with a shorter prompt by chance, such as a greeting ("Hello")."""
UNSUPPORTED_COLUMNS = ("image", "images", "video", "videos", "audio", "audios")
"""Columns with parts of the prompt or the answers that are not text."""
SHARED_COLUMNS = ("system", "tools", "weight")
"""Columns with the same meaning in every format."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of one source are read.

    Attributes:
        request: the user's choices.
        tags: how turns are written.
        coding: what the label values mean in this source, found from all its rows.
    """

    request: DatasetRequest = field(default_factory=DatasetRequest)
    tags: Tags = USUAL_TAGS
    coding: Coding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedAnswers(Record):
    """A prompt with K answers and their scores, converted into pairs or rankings by `DatasetRequest.ratings`.

    Attributes:
        completions: the K answers.
        scores: their scores in the source's units; higher is better.
        dimensions: for each answer its scores by dimension; may be empty.
        highest: the highest possible score, if known.
    """

    completions: tuple[Messages, ...]
    scores: tuple[float, ...]
    dimensions: tuple[Mapping[str, float], ...] = ()
    highest: float | None = None

    @property
    def best_first(self) -> list[int]:
        """The indices of the answers by their scores, equal ones in their order."""
        return sorted(range(len(self.scores)), key=lambda index: -self.scores[index])


@dataclass(frozen=True, slots=True)
class Origin:
    """Id, source and unread columns of a row, and what was noticed while it was read.

    Attributes:
        id, source, extra: as in `Record`.
        row: all columns of the row.
        notices: names of peculiarities of the row, which are counted in reports.
        repeats_prompt: whether the answers of this source begin with the text of their prompt.
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
        """The fields of `Record` except the prompt."""
        unsupported = next((name for name in UNSUPPORTED_COLUMNS if is_filled(self.row.get(name))), None)
        if unsupported is not None:
            raise RowError("row_not_held", f"has {unsupported!r}, which palate cannot represent; it reads text only")
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
    """The first of these columns that the row has; None if it has none of them."""
    return next((name for name in names if name in row), None)


def cell(row: Row, *names: str) -> Any:
    """The value of the first of these columns that the row has."""
    name = present(row, names)
    if name is None:
        raise RowError("missing_key", f"has no {' or '.join(repr(name) for name in names)}")
    return row[name]


def is_filled(value: Any) -> bool:
    """Whether a cell has a value other than null, false, empty text, and lists or objects of these."""
    if isinstance(value, Mapping):
        return any(map(is_filled, value.values()))
    if isinstance(value, list | tuple):
        return any(map(is_filled, value))
    return value is not None and value is not False and value != ""


def number(value: Any, name: str) -> float | None:
    """A cell as a number, also if it is written as text; None for null and empty text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise RowError("not_a_number", f"{name} is {excerpt(value)}")
    return found


def number_or_none(value: Any) -> float | None:
    """As `number`, but None for a cell that is not a number."""
    try:
        return number(value, "")
    except RowError:
        return None


def conversation(value: Any, name: str, speaker: Literal["user", "assistant"], reading: Reading) -> Messages:
    """A cell as turns: a text is one turn of `speaker` (or a transcript), an object one turn, a list several."""
    if isinstance(value, str):
        content = text(value, name)
        if speaker == "user" and is_transcript(content):
            return read_transcript_prompt(content, name)
        return (Message(speaker, content),)
    if is_turn(value, reading.tags):
        return (read_turn(value, name, reading.tags),)
    if isinstance(value, list | tuple):
        if not value:
            raise RowError(f"empty_{name}", f"{name} is an empty list")
        return read_turns(value, name, reading.tags)
    text(value, name)  # raises for null, numbers and other plain values
    raise RowError("not_text", f"{name} is a {type(value).__name__}")


def is_whole_conversation(value: Any, reading: Reading) -> bool:
    """Whether a cell is a list of turns that begins with its prompt."""
    return is_turns(value, reading.tags) and role_of(value[0], reading.tags) in ("system", "user")


def checked_prompt(messages: Messages) -> Messages:
    """The prompt itself; raises `RowError` unless an answer can follow it."""
    if not any(message.role in ("user", "tool") for message in messages) or messages[-1].is_empty:
        raise RowError("empty_prompt", "nothing is asked: the prompt's last turn is empty or it has no user turn")
    if messages[-1].role == "assistant":
        raise RowError("prompt_ends_with_assistant", f"the prompt ends with an answer: {excerpt(messages[-1].text)}")
    if messages[-1].role == "system":
        raise RowError("prompt_ends_with_system", f"the prompt ends with: {excerpt(messages[-1].content)}")
    return messages


def checked_completion(messages: Messages, name: str) -> Messages:
    """The completion itself; raises `RowError` unless it ends with an answer and at least one turn is trained."""
    if not messages or messages[-1].role != "assistant":
        seen = messages[-1].role if messages else "nothing"
        raise RowError("no_assistant_turn", f"{name} does not end with an assistant turn but with {seen}")
    if messages[-1].is_empty:
        only = " apart from its reasoning" if messages[-1].reasoning_content else ""
        raise RowError(f"empty_{name}", f"{name} is empty{only}")
    if not any(message.trained for message in messages if message.role == "assistant"):
        raise RowError(
            "not_trained", f"{name} has no assistant turn that its flags (loss_weight, train …) leave to train"
        )
    return messages


def before_last_answer(messages: Messages) -> Messages:
    """The conversation up to the assistant's turns at its end."""
    end = len(messages)
    while end and messages[end - 1].role == "assistant":
        end -= 1
    return messages[:end]


def same_text(left: Messages, right: Messages) -> bool:
    """Whether two answers are equal apart from Unicode form, white space and a closing full stop."""
    if len(left) != len(right):
        return False
    return all(a.role == b.role and _plain(a.text) == _plain(b.text) for a, b in zip(left, right, strict=True))


def without_prompt(
    origin: Origin, prompt: Messages, answers: Sequence[Messages], names: Sequence[str] = ()
) -> tuple[Messages, tuple[Messages, ...]]:
    """Removes the prompt from answers that repeat it, for every kind of record. Returns (prompt, answers)."""
    prompt, answers, repeated = split_answers(prompt, answers, names, repeats_prompt=origin.repeats_prompt)
    if repeated and origin.repeats_prompt:
        origin.notices.append(PROMPT_REPEATED)
    elif repeated and len(prompt[-1].content.strip()) >= _MIN_PROMPT:
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
    """A checked preference pair. As in all functions below, the prompt is removed from answers that repeat it."""
    prompt, (chosen, rejected) = without_prompt(origin, prompt, (chosen, rejected), ("chosen", "rejected"))
    prompt = checked_prompt(prompt)
    chosen = checked_completion(chosen, "chosen")
    rejected = checked_completion(rejected, "rejected")
    if same_text(chosen, rejected):
        how = "" if chosen == rejected else " apart from white space or a closing full stop"
        raise RowError("equal", f"chosen and rejected are equal{how}: {excerpt(chosen[-1].text)}")
    fields = origin.fields()
    return PreferencePair(
        **fields, prompt=prompt, chosen=chosen, rejected=rejected, margin=margin, dimensions=dimensions
    )


def one_answer(kind: type[R], origin: Origin, prompt: Messages, completion: Messages, **values: Any) -> R:
    """A checked record with one answer; `values` are the further fields of its kind."""
    prompt, (completion,) = without_prompt(origin, prompt, (completion,))
    values["completion"] = checked_completion(completion, "completion")
    return kind(**origin.fields(), prompt=checked_prompt(prompt), **values)


def scored(origin: Origin, prompt: Messages, completion: Messages, score: Any) -> ScoredCompletion:
    """A checked completion with its score in [0, 1]."""
    value = number(score, "score")
    if value is None:
        raise RowError("missing_score", "score is null")
    if not 0 <= value <= 1:
        raise RowError("score_out_of_range", f"score is {value:g}; bring scores to 0 … 1 first")
    return one_answer(ScoredCompletion, origin, prompt, completion, score=value)


def ranking(origin: Origin, prompt: Messages, answers: Sequence[Messages]) -> Ranking:
    """A checked ranking, best first, without empty answers and answers that repeat a better one."""
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
        raise RowError("too_few_answers", f"different answers that are not empty: {len(kept)}; a ranking needs 2")
    return Ranking(**origin.fields(), prompt=checked_prompt(prompt), completions=tuple(kept))


def _plain(content: str) -> str:
    if not content.isascii():
        content = unicodedata.normalize("NFKC", content)
    return " ".join(content.split()).strip(" .。")


def read_tools(value: Any) -> str | None:
    """Tool specifications as a JSON list. In some files each element is JSON text, to avoid padding with nulls."""
    if value is None or value == "" or value == []:
        return None
    listed = literal(value) if isinstance(value, str) else value
    if isinstance(listed, list) and listed and all(isinstance(tool, str) for tool in listed):
        parsed = [literal(tool) for tool in listed]
        if all(isinstance(tool, dict) for tool in parsed):
            value = parsed
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return text(value, "tools")
