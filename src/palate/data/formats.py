"""Which shape the rows of a source have: recognised once, from the first rows, then applied to all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from typing import TypeAlias

from palate.data import paired_formats as paired
from palate.data import single_formats as single
from palate.data.kinds import KIND_NAMES, can_become
from palate.data.messages import excerpt
from palate.data.rows import COMPLETION_NAMES, PROMPT_NAMES, SHARED_COLUMNS, Origin, RatedAnswers, Reading, Row
from palate.errors import DataError
from palate.records import (
    Demonstration,
    LabelledCompletion,
    PreferencePair,
    Ranking,
    Record,
    Rollouts,
    ScoredCompletion,
)

Needs: TypeAlias = tuple[tuple[str, ...], ...]

SAMPLE = 200
"""Rows looked at to recognise a format."""


@dataclass(frozen=True, slots=True)
class Format:
    """One shape of rows.

    Attributes:
        name: what reports call it.
        shape: what a row looks like, for a person.
        kind: the record that its rows become by nature.
        needs: the columns it cannot do without, alternatives together.
        matches: whether a row looks like it.
        read: a row as a record; raises `RowError`.
        reads: further columns that it uses; whatever it does not use is kept in `extra`.
    """

    name: str
    shape: str
    kind: type[Record]
    needs: Needs
    matches: Callable[[Row, Reading], bool]
    read: Callable[[Row, Origin, Reading], Record]
    reads: tuple[str, ...] = ()

    @property
    def columns(self) -> frozenset[str]:
        """Every column that it uses."""
        return frozenset((*SHARED_COLUMNS, *self.reads, *(name for names in self.needs for name in names)))


@dataclass(frozen=True, slots=True)
class Recognised:
    """The format of a source, and the share of the rows looked at that have it."""

    format: Format
    confidence: float


_CHOSEN: Needs = (("chosen",), ("rejected",))
_TALK: Needs = (paired.CONVERSATION_NAMES,)
_EXCHANGE: Needs = (PROMPT_NAMES, COMPLETION_NAMES)
_ALPACA_EXTRAS = ("input", "history")

FORMATS: tuple[Format, ...] = (
    Format(
        "chosen-rejected-messages",
        "{chosen_messages: [{role, content, loss_weight}], rejected_messages}",
        PreferencePair,
        (("chosen_messages",), ("rejected_messages",)),
        paired.is_messages_pair,
        paired.read_messages_pair,
        paired.PAIR_COLUMNS[2:],
    ),
    Format(
        "openai-preference",
        "{input: {messages}, preferred_output, non_preferred_output}",
        PreferencePair,
        (("input",), ("preferred_output",), ("non_preferred_output",)),
        paired.is_openai_pair,
        paired.read_openai_pair,
        paired.PAIR_COLUMNS[2:],
    ),
    Format(
        "hh-transcripts",
        '{chosen: "\\n\\nHuman: … \\n\\nAssistant: …", rejected}',
        PreferencePair,
        _CHOSEN,
        paired.is_transcript_pair,
        paired.read_transcript_pair,
        paired.PAIR_COLUMNS,
    ),
    Format(
        "hh-prompt",
        '{prompt: "\\n\\nHuman: … \\n\\nAssistant:", chosen, rejected}',
        PreferencePair,
        (("prompt",), *_CHOSEN),
        paired.is_transcript_prompt_pair,
        paired.read_transcript_prompt_pair,
        (*paired.PAIR_COLUMNS, "response"),
    ),
    Format(
        "conversations-pairs",
        "{conversations: [{from, value}], chosen, rejected}",
        PreferencePair,
        (*_TALK, *_CHOSEN),
        paired.is_conversation_pair,
        paired.read_conversation_pair,
        paired.PAIR_COLUMNS,
    ),
    Format(
        "alpaca-pairs",
        "{instruction, input, chosen, rejected}",
        PreferencePair,
        (("instruction",), *_CHOSEN),
        paired.is_alpaca_pair,
        paired.read_alpaca_pair,
        (*paired.PAIR_COLUMNS, *_ALPACA_EXTRAS),
    ),
    Format(
        "prompt-pairs",
        "{prompt, chosen, rejected}",
        PreferencePair,
        (PROMPT_NAMES, *_CHOSEN),
        paired.is_prompt_pair,
        paired.read_prompt_pair,
        paired.PAIR_COLUMNS,
    ),
    Format(
        "implicit-prompt",
        "{chosen: [{role, content}], rejected: [{role, content}]}",
        PreferencePair,
        _CHOSEN,
        paired.is_implicit_pair,
        paired.read_implicit_pair,
        paired.PAIR_COLUMNS,
    ),
    Format(
        "pku-saferlhf",
        "{prompt, response_0, response_1, better_response_id, safer_response_id}",
        PreferencePair,
        (("prompt",), ("response_0",), ("response_1",), ("better_response_id", "safer_response_id")),
        paired.is_safety_pair,
        paired.read_safety_pair,
    ),
    Format(
        "stack-exchange",
        "{question, response_j, response_k}",
        PreferencePair,
        (("question",), ("response_j",), ("response_k",)),
        paired.is_stack_exchange,
        paired.read_stack_exchange,
        paired.PAIR_COLUMNS[2:],
    ),
    Format(
        "two-answers",
        "{question, answer_1, answer_2, chosen: 1 or 2}",
        PreferencePair,
        (
            (*PROMPT_NAMES, "input"),
            tuple(names[0] for names in paired.TWO_ANSWERS),
            tuple(names[1] for names in paired.TWO_ANSWERS),
            paired.VERDICT_NAMES,
        ),
        paired.is_two_answers,
        paired.read_two_answers,
        paired.PAIR_COLUMNS[2:],
    ),
    Format(
        "arena",
        "{conversation_a, conversation_b, winner}",
        PreferencePair,
        (("conversation_a",), ("conversation_b",), ("winner",)),
        paired.is_arena,
        paired.read_arena,
    ),
    Format(
        "rated",
        "{instruction, completions: [{response, overall_score}]}",
        RatedAnswers,
        (PROMPT_NAMES, single.ANSWER_LIST_NAMES),
        single.is_rated,
        single.read_rated,
    ),
    Format(
        "rollouts",
        "{prompt, completions: […], rewards: […]}",
        Rollouts,
        (PROMPT_NAMES, single.ANSWER_LIST_NAMES, ("rewards", "scores")),
        single.is_rollouts,
        single.read_rollouts,
    ),
    Format(
        "ranked",
        "{instruction, input, output: [best, …, worst], history}",
        Ranking,
        (PROMPT_NAMES, ("output", *single.ANSWER_LIST_NAMES)),
        single.is_ranked,
        single.read_ranked,
        _ALPACA_EXTRAS,
    ),
    Format(
        "labelled-messages",
        "{messages, label: true or false}",
        LabelledCompletion,
        (*_TALK, single.LABEL_NAMES),
        lambda row, reading: single.has_conversation(row, reading) and single.is_labelled(row, reading),
        single.read_labelled,
    ),
    Format(
        "labelled",
        "{prompt, completion, label: true or false}",
        LabelledCompletion,
        (*_EXCHANGE, single.LABEL_NAMES),
        single.is_labelled,
        single.read_labelled,
        _ALPACA_EXTRAS,
    ),
    Format(
        "scored",
        "{prompt, response, score: 0 … 1}",
        ScoredCompletion,
        (*_EXCHANGE, single.SCORE_NAMES),
        single.is_scored,
        single.read_scored,
        (*paired.CONVERSATION_NAMES, *_ALPACA_EXTRAS),
    ),
    Format(
        "messages",
        "{messages: [{role, content}]} or {conversations: [{from, value}]}",
        Demonstration,
        _TALK,
        single.is_messages,
        single.read_messages,
    ),
    Format(
        "alpaca",
        "{instruction, input, output}",
        Demonstration,
        (("instruction",), ("output",)),
        single.is_alpaca,
        single.read_alpaca,
        _ALPACA_EXTRAS,
    ),
    Format(
        "prompt-completion",
        "{prompt, completion}",
        Demonstration,
        _EXCHANGE,
        single.is_prompt_completion,
        single.read_prompt_completion,
        _ALPACA_EXTRAS,
    ),
    Format("text", "{text}", Demonstration, (("text",),), single.is_text, single.read_text),
    Format(
        "prompts",
        "{prompt} or {messages} that end with a user turn",
        Record,
        ((*PROMPT_NAMES, *paired.CONVERSATION_NAMES),),
        single.is_prompt,
        single.read_prompt,
        _ALPACA_EXTRAS,
    ),
)
"""From the most particular shape to the most general: of two that fit equally well the first is meant."""


def recognise(sample: Sequence[Row], reading: Reading, where: str, kind: type[Record] | None = None) -> Recognised:
    """The format of a source.

    Args:
        sample: its first rows, only those that are objects.
        reading: how turns are written.
        where: the source's path, for the complaint.
        kind: the record that is wanted; formats that are it by nature go first, those that cannot become it are out.
    """
    if not sample:
        raise DataError(f"{where}: none of its first rows is an object with named columns")
    fits = [(form, sum(form.matches(row, reading) for row in sample) / len(sample)) for form in FORMATS]
    usable = [(form, share) for form, share in fits if kind is None or can_become(form.kind, kind)]
    if kind is None and any(share >= 0.5 and form.kind is not Record for form, share in usable):
        # Rows with answers are more than prompts, also where a few of them lack a key.
        usable = [(form, share) for form, share in usable if form.kind is not Record]
    best = max(usable, key=lambda fit: (fit[1], kind is not None and fit[0].kind is kind))
    if best[1] >= 0.5:
        return Recognised(*best)
    columns = ", ".join(excerpt(name, 40) for name in _columns(sample)[:12]) or "none"
    # Whatever has a prompt could be read as prompts alone; that says less than what is missing.
    other = max((fit for fit in fits if fit[0].kind is not Record), key=lambda fit: fit[1])
    if kind is not None and other[1] >= 0.5:
        raise DataError(
            f"{where}: its rows are {other[0].shape} ({KIND_NAMES[other[0].kind]}), "
            f"which cannot become {KIND_NAMES[kind]}; columns found: {columns}"
        )
    wanted = [form for form, _ in usable]
    if kind is Record:
        known = ", ".join((*PROMPT_NAMES, *paired.CONVERSATION_NAMES))
        raise DataError(
            f"{where}: no row has a prompt; known columns are {known}; map one of your own with "
            f"columns: {{prompt: YOUR_COLUMN}} in a config or in dataset_info.json; columns found: {columns}"
        )
    raise DataError(f"{where}: {_unrecognised(wanted, sample, reading)}; columns found: {columns}")


def _unrecognised(wanted: Sequence[Format], sample: Sequence[Row], reading: Reading) -> str:
    """Names the missing keys where a known shape is near, else the known shapes."""
    found = set(_columns(sample))

    def nearness(form: Format) -> tuple[bool, float]:
        share = sum(bool(found.intersection(names)) for names in form.needs) / len(form.needs)
        return _mapping_helps(form, sample, reading), share

    # Of shapes that are equally near the most general one is named: the table runs from particular to general.
    near = max(reversed(wanted), key=nearness)
    missing = [names[0] for names in near.needs if not found.intersection(names)]
    have = len(near.needs) - len(missing)
    if _mapping_helps(near, sample, reading):
        lacking = " and ".join(repr(name) for name in missing)
        named = ", ".join(f"{name}: YOUR_COLUMN" for name in missing)
        return f"the rows lack {lacking} of {near.shape}; name the column that holds it, columns: {{{named}}}"
    if have and missing:
        return f"the rows lack {' and '.join(repr(name) for name in missing)} of {near.shape}"
    if have:
        return f"the columns are those of {near.shape} but what they hold is not"
    usual = [form.shape for form in wanted if form.name in _USUAL] or [form.shape for form in wanted[:4]]
    more = f" and {len(wanted) - len(usual)} more (see docs/data.md)" if len(wanted) > len(usual) else ""
    return (
        f"the format is not recognised; known are {', '.join(usual)}{more}; name all columns of one of these, as "
        "columns: {prompt: YOUR_COLUMN, …}, for palate data --column prompt=YOUR_COLUMN …"
    )


def _mapping_helps(form: Format, sample: Sequence[Row], reading: Reading) -> bool:
    """Whether rows have the format once columns that it does not use stand under the names that it lacks."""
    found = _columns(sample)
    missing = [names[0] for names in form.needs if not any(name in found for name in names)]
    free = [name for name in found if name not in form.columns]
    if not 0 < len(missing) < min(len(form.needs), len(free) + 1):
        return False
    for chosen in islice(permutations(free, len(missing)), _MAPPINGS):
        names = dict(zip(chosen, missing, strict=True))
        rows = [{names.get(key, key): value for key, value in row.items()} for row in sample[:_LOOKED_AT]]
        if sum(form.matches(row, reading) for row in rows) * 2 >= len(rows):
            return True
    return False


# Of a hint that is tried before it is given: ways to name columns, and rows.
_MAPPINGS = 200
_LOOKED_AT = 20


_USUAL = ("prompt-pairs", "implicit-prompt", "conversations-pairs", "ranked", "labelled", "messages")


def _columns(sample: Sequence[Row]) -> list[str]:
    """Column names in the order first seen."""
    names: Mapping[str, None] = dict.fromkeys(str(name) for row in sample for name in row)
    return list(names)
