"""What every format shares: cells of a row, checks of prompts and completions, and the records made of them."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from palate.data.messages import (
    RowError,
    Tags,
    assistant,
    excerpt,
    is_turn,
    is_turns,
    read_turn,
    read_turns,
    text,
    user,
    with_system,
)
from palate.records import (
    Demonstration,
    LabelledCompletion,
    Messages,
    PreferencePair,
    Ranking,
    Record,
    ScoredCompletion,
)

Row: TypeAlias = Mapping[str, Any]

PROMPT_NAMES = ("prompt", "question", "instruction", "query")
COMPLETION_NAMES = ("completion", "response", "answer", "output")
SHARED_COLUMNS = ("system", "tools", "weight")
"""Columns that mean the same in every format."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Choices that some formats leave open.

    Attributes:
        tags: how turns are written.
        prefer: in rows with a helpfulness and a safety label, which one decides (`both`: only where they agree).
        ratings: how rated answers become pairs: best against worst, best against a random worse one, or every pair.
        min_margin: rated pairs whose scores differ by less are left out; in the source's units.
        seed: of the random worse answer.
    """

    tags: Tags = field(default_factory=Tags)
    prefer: Literal["better", "safer", "both"] = "better"
    ratings: Literal["best_worst", "best_random", "all_pairs"] = "best_worst"
    min_margin: float = 0.0
    seed: int = 0


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

    `notices` collects short names of what is worth counting about a row that is used all the same.
    """

    id: str
    source: str
    row: Row
    extra: Mapping[str, Any]
    notices: list[str] = field(default_factory=list)

    def fields(self) -> dict[str, Any]:
        """The fields of `Record` but the prompt."""
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


_YES = {"true", "1", "1.0", "yes", "good", "desirable", "chosen", "+1", "thumbs_up", "👍"}
_NO = {"false", "0", "0.0", "-1", "-1.0", "no", "bad", "undesirable", "rejected", "thumbs_down", "👎"}


def is_yes_or_no(value: Any) -> bool:
    """Whether `yes_or_no` understands a label."""
    return str(value).strip().lower() in _YES | _NO


def yes_or_no(value: Any, name: str) -> bool:
    """A label as a truth value: true/false, 1/0, 1/-1, or one of a few words."""
    said = str(value).strip().lower()
    if said in _YES or said in _NO:
        return said in _YES
    raise RowError("bad_label", f"{name} is {excerpt(value)}; it must be true or false")


def prompt_of(row: Row, value: Any, name: str, reading: Reading) -> Messages:
    """The prompt cell (text, one turn, or turns) as a conversation, the row's system text in front."""
    return checked_prompt(with_system(row.get("system"), conversation(value, name, "user", reading)))


def conversation(value: Any, name: str, speaker: Literal["user", "assistant"], reading: Reading) -> Messages:
    """A cell as turns: text is one turn of `speaker`, an object one turn, a list several."""
    if isinstance(value, str):
        said = text(value, name)
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
    if not is_turns(value, reading.tags):
        return False
    try:
        return read_turn(value[0], "", reading.tags).role in ("system", "user")
    except RowError:
        return False


def checked_prompt(messages: Messages) -> Messages:
    """The prompt, if an answer can follow it."""
    if not any(message.role in ("user", "tool") for message in messages) or not messages[-1].content.strip():
        raise RowError("empty_prompt", "nothing is asked: the prompt's last turn is empty or it has no user turn")
    if messages[-1].role == "assistant":
        raise RowError("prompt_ends_with_assistant", f"the prompt ends with an answer: {excerpt(messages[-1].content)}")
    if messages[-1].role == "system":
        raise RowError("prompt_ends_with_system", f"the prompt ends with: {excerpt(messages[-1].content)}")
    return messages


def checked_completion(messages: Messages, name: str) -> Messages:
    """The completion, if it ends with an assistant turn that says something."""
    if not messages or messages[-1].role != "assistant":
        seen = messages[-1].role if messages else "nothing"
        raise RowError("no_assistant_turn", f"{name} does not end with an assistant turn but with {seen}")
    if not messages[-1].content.strip():
        raise RowError(f"empty_{name}", f"{name} is empty")
    return messages


def same_text(left: Messages, right: Messages) -> bool:
    """Whether two answers say the same: equal up to Unicode form, white space and a closing full stop."""
    if len(left) != len(right):
        return False
    return all(a.role == b.role and _plain(a.content) == _plain(b.content) for a, b in zip(left, right, strict=True))


def pair(
    origin: Origin,
    prompt: Messages,
    chosen: Messages,
    rejected: Messages,
    *,
    margin: float | None = None,
    dimensions: Mapping[str, tuple[float, float]] | None = None,
) -> PreferencePair:
    """A checked preference pair."""
    prompt = checked_prompt(prompt)
    chosen = checked_completion(chosen, "chosen")
    rejected = checked_completion(rejected, "rejected")
    if same_text(chosen, rejected):
        how = "" if chosen == rejected else " but for white space or a closing full stop"
        raise RowError("equal", f"chosen and rejected are equal{how}: {excerpt(chosen[-1].content)}")
    fields = origin.fields()
    return PreferencePair(
        **fields, prompt=prompt, chosen=chosen, rejected=rejected, margin=margin, dimensions=dimensions
    )


def demonstration(origin: Origin, prompt: Messages, completion: Messages) -> Demonstration:
    """A checked demonstration."""
    return Demonstration(
        **origin.fields(), prompt=checked_prompt(prompt), completion=checked_completion(completion, "completion")
    )


def labelled(origin: Origin, prompt: Messages, completion: Messages, label: Any) -> LabelledCompletion:
    """A checked completion with its label."""
    desirable = yes_or_no(label, "label")
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
    completion = checked_completion(completion, "completion")
    return ScoredCompletion(**origin.fields(), prompt=checked_prompt(prompt), completion=completion, score=value)


def ranking(origin: Origin, prompt: Messages, answers: Sequence[Messages]) -> Ranking:
    """A checked ranking, best first. Empty answers and repetitions of a better one are left out of it."""
    kept: list[Messages] = []
    for answer in answers:
        if not answer or not answer[-1].content.strip():
            origin.notices.append("empty_answer")
        elif any(same_text(answer, better) for better in kept):
            origin.notices.append("repeated_answer")
        else:
            kept.append(checked_completion(answer, "answer"))
    if len(kept) < 2:
        raise RowError("too_few_answers", f"{len(kept)} different answers that are not empty; a ranking needs 2")
    return Ranking(**origin.fields(), prompt=checked_prompt(prompt), completions=tuple(kept))


def split_off_prompt(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """(prompt, chosen, rejected) of two whole conversations: they share all turns up to the answers compared."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) == len(rejected):
        raise RowError("equal", f"chosen and rejected are equal: {excerpt(chosen[-1].content) if chosen else ''}")
    while shared and chosen[shared - 1].role == "assistant":
        shared -= 1
    left, right = chosen[shared:], rejected[shared:]
    for name, rest in (("chosen", left), ("rejected", right)):
        if any(message.role in ("user", "system") for message in rest):
            raise RowError("diverges", f"{name} parts from the other before the last user turn (turn {shared + 1})")
    return chosen[:shared], left, right


def _plain(content: str) -> str:
    if not content.isascii():
        content = unicodedata.normalize("NFKC", content)
    return " ".join(content.split()).strip(" .。")


def read_tools(value: Any) -> str | None:
    """The `tools` cell as JSON text; None for none."""
    if value is None or value == "" or value == []:
        return None
    return text(value, "tools") if isinstance(value, str) else json_text(value, "tools")


def json_text(value: Any, name: str) -> str:
    """A value as JSON text, so that a column of objects survives as text."""
    return text(json.dumps(value, ensure_ascii=False, default=str), name)
