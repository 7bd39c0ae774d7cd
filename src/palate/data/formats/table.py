"""The table of formats that palate reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from palate.data.formats import listed, paired, single, voted
from palate.data.formats.labels import LabelCells
from palate.data.formats.prompts import WIDE_PROMPT_NAMES, wide_prompt_columns
from palate.data.formats.rows import (
    COMPLETION_NAMES,
    PROMPT_NAMES,
    SHARED_COLUMNS,
    Origin,
    RatedAnswers,
    Reading,
    Row,
    present,
)
from palate.data.turns.cells import RowError
from palate.plugins import all_plugins
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


@dataclass(frozen=True, slots=True)
class Format:
    """How rows of one format are recognised and read.

    Attributes:
        name: its name in reports.
        shape: an example row for messages.
        needs: required columns; each is a tuple of alternative names.
        read: a row as one record or several; raises `RowError`.
        is_match: whether a row has this format; None if a row with all required columns has it.
        reads: optional columns. Columns that are not read are kept in `extra`.
        kind: the kind of its records before any conversion.
        labels: the label cells of a row, if label values must be interpreted for the whole source.
        uses: the required columns of a row, if their names vary too much for `needs`.
    """

    name: str
    shape: str
    needs: Needs
    read: Callable[[Row, Origin, Reading], Record | Sequence[Record]]
    is_match: Callable[[Row, Reading], bool] | None = None
    reads: tuple[str, ...] = ()
    kind: type[Record] = PreferencePair
    labels: Callable[[Row, Reading], LabelCells | None] | None = None
    uses: Callable[[Row], Iterable[str]] | None = None

    def matches(self, row: Row, reading: Reading) -> bool:
        """Whether a row has this format."""
        if self.is_match is None:
            return all(present(row, names) is not None for names in self.needs)
        return self.is_match(row, reading)

    def records(self, row: Row, origin: Origin, reading: Reading) -> Record | Sequence[Record]:
        """The records of a row of a source that has this format; raises `RowError` if it cannot be used.

        `read` may assume what `is_match` checks, because the format was recognised; a single row may still differ.
        """
        try:
            return self.read(row, origin, reading)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            if self.matches(row, reading):
                raise
            raise RowError("other_shape", f"the row is not {self.shape}") from error

    def columns(self, row: Row) -> frozenset[str]:
        """The columns of a row that are read; for an empty row all columns that may be read."""
        if self.uses is not None:
            return frozenset((*SHARED_COLUMNS, *self.reads, *self.uses(row)))
        names = {name for names in self.needs for name in names}
        return frozenset((*SHARED_COLUMNS, *self.reads, *(names - set(self.passed_over(row)))))

    def passed_over(self, row: Row) -> list[str]:
        """Columns with a second prompt or answer under another accepted name; only the first is read."""
        either = [names for names in (PROMPT_NAMES, COMPLETION_NAMES) if names in self.needs]
        seconds = (name for names in either for name in [name for name in names if name in row][1:])
        return [name for name in seconds if name not in self.reads and name != "instruction"]


def _chosen_is_answer(is_match: Callable[[Row, Reading], bool]) -> Callable[[Row, Reading], bool]:
    """`is_match` restricted to rows whose `chosen` is an answer, not a label that names one."""
    return lambda row, reading: (
        is_match(row, reading)
        and not isinstance(row["chosen"], int | float)
        and not voted.chosen_is_label(row)
        and not listed.chosen_is_index(row)
    )


_CHOSEN: Needs = (("chosen",), ("rejected",))
_EXCHANGE: Needs = (PROMPT_NAMES, COMPLETION_NAMES)
_ALPACA_EXTRAS = ("input", "history")

FORMATS: tuple[Format, ...] = (
    Format(
        "chosen-rejected-messages",
        "{chosen_messages: [{role, content, loss_weight}], rejected_messages}",
        (("chosen_messages",), ("rejected_messages",)),
        paired.read_messages_pair,
        reads=paired.GRADE_COLUMNS,
    ),
    Format(
        "openai-preference",
        "{input: {messages}, preferred_output, non_preferred_output}",
        (("input",), ("preferred_output",), ("non_preferred_output",)),
        paired.read_openai_pair,
        reads=paired.GRADE_COLUMNS,
    ),
    Format(
        "rejected-response",
        "{messages, rejected_response} or {messages, rejected_messages}",
        (("messages", "conversations", *PROMPT_NAMES), paired.REJECTED_NAMES),
        paired.read_rejected_response,
        paired.is_rejected_response,
        (*paired.GRADE_COLUMNS, "response", "history"),
    ),
    Format(
        "hh-transcripts",
        '{chosen: "\\n\\nHuman: … \\n\\nAssistant: …", rejected}',
        _CHOSEN,
        paired.read_transcript_pair,
        paired.is_transcript_pair,
        paired.PAIR_COLUMNS,
    ),
    Format(
        "hh-prompt",
        '{prompt: "\\n\\nHuman: … \\n\\nAssistant:", chosen, rejected}',
        (("prompt",), *_CHOSEN),
        paired.read_transcript_prompt_pair,
        _chosen_is_answer(paired.is_transcript_prompt_pair),
        (*paired.PAIR_COLUMNS, "response"),
    ),
    Format(
        "conversations-pairs",
        "{conversations: [{from, value}], chosen, rejected}",
        (paired.PROMPT_TURN_NAMES, *_CHOSEN),
        paired.read_conversation_pair,
        _chosen_is_answer(paired.is_conversation_pair),
        paired.PAIR_COLUMNS,
    ),
    Format(
        "answer-lists",
        "{prompt, chosen: [text, …], rejected: [text, …]}",
        (WIDE_PROMPT_NAMES, *_CHOSEN),
        listed.read_answer_lists,
        listed.is_answer_lists,
        uses=lambda row: (*wide_prompt_columns(row), "chosen", "rejected"),
    ),
    Format(
        "alpaca-pairs",
        "{instruction, input, chosen, rejected}",
        (("instruction",), *_CHOSEN),
        paired.read_alpaca_pair,
        _chosen_is_answer(paired.is_alpaca_pair),
        (*paired.PAIR_COLUMNS, *_ALPACA_EXTRAS),
    ),
    Format(
        "prompt-pairs",
        "{prompt, chosen, rejected}",
        (PROMPT_NAMES, *_CHOSEN),
        paired.read_prompt_pair,
        _chosen_is_answer(paired.is_prompt_pair),
        paired.PAIR_COLUMNS,
    ),
    Format(
        "implicit-prompt",
        "{chosen: [{role, content}], rejected: [{role, content}]}",
        _CHOSEN,
        paired.read_implicit_pair,
        paired.is_implicit_pair,
        paired.PAIR_COLUMNS,
    ),
    Format(
        "pku-saferlhf",
        "{prompt, response_0, response_1, better_response_id, safer_response_id}",
        (("prompt",), ("response_0",), ("response_1",), ("better_response_id", "safer_response_id")),
        paired.read_safety_pair,
        labels=paired.safety_cells,
    ),
    Format(
        "stack-exchange",
        "{question, response_j, response_k}",
        (("question",), ("response_j",), ("response_k",)),
        paired.read_stack_exchange,
        reads=paired.GRADE_COLUMNS,
    ),
    Format(
        "label-studio",
        "{data: {prompt, answer1, answer2}, annotations: [{result: [{value: {selected: left}}]}]}",
        (("data",), ("annotations",)),
        voted.read_label_studio,
        voted.is_label_studio,
        labels=voted.label_studio_cells,
    ),
    Format(
        "two-answers",
        "{prompt, response_1, response_2, label} or {prompt, response_1, response_2, score_1, score_2}",
        (
            WIDE_PROMPT_NAMES,
            ("response_1", "answer_1", "output_1", "response_a", "answer_a", "response1", "answer1", "response_0"),
            ("response_2", "answer_2", "output_2", "response_b", "answer_b", "response2", "answer2", "response_1"),
            ("label", *voted.LABEL_NAMES),
        ),
        voted.read_two_answers,
        voted.is_two_answers,
        paired.GRADE_COLUMNS,
        labels=voted.label_cells,
        uses=voted.used_columns,
    ),
    Format(
        "ranked-answers",
        "{prompt, answers: [{answer, rank}]}",
        (WIDE_PROMPT_NAMES, listed.LIST_NAMES, listed.RANK_NAMES),
        listed.read_ranked_answers,
        listed.is_ranked_answers,
        kind=Ranking,
        uses=listed.used_columns,
    ),
    Format(
        "best-of-list",
        "{prompt, answers: [text, …], best: 1}",
        (WIDE_PROMPT_NAMES, listed.LIST_NAMES, listed.BEST_NAMES),
        listed.read_best_of_list,
        listed.is_best_of_list,
        labels=listed.best_cells,
        uses=listed.used_columns,
    ),
    Format(
        "message-tree",
        "{prompt: {text, replies: [{text, rank, replies}]}}",
        (("prompt",), ("message_tree_id", "tree_state")),
        listed.read_message_tree,
        listed.is_message_tree,
        kind=Ranking,
        uses=lambda _: ("prompt",),
    ),
    Format(
        "rated",
        "{instruction, completions: [{response, overall_score}]}",
        (PROMPT_NAMES, single.ANSWER_LIST_NAMES),
        single.read_rated,
        single.is_rated,
        kind=RatedAnswers,
    ),
    Format(
        "rollouts",
        "{prompt, completions: […], rewards: […]}",
        (PROMPT_NAMES, single.ANSWER_LIST_NAMES, ("rewards", "scores")),
        single.read_rollouts,
        single.is_rollouts,
        kind=Rollouts,
    ),
    Format(
        "ranked",
        "{instruction, input, output: [best, …, worst], history}",
        (PROMPT_NAMES, ("output", *single.ANSWER_LIST_NAMES)),
        single.read_ranked,
        single.is_ranked,
        _ALPACA_EXTRAS,
        kind=Ranking,
    ),
    Format(
        "labelled-messages",
        "{messages, label: true or false}",
        (paired.CONVERSATION_NAMES, single.LABEL_NAMES),
        single.read_labelled,
        lambda row, reading: single.has_conversation(row, reading) and single.is_labelled(row, reading),
        kind=LabelledCompletion,
        labels=single.label_cells,
    ),
    Format(
        "labelled",
        "{prompt, completion, label: true or false}",
        (*_EXCHANGE, single.LABEL_NAMES),
        single.read_labelled,
        single.is_labelled,
        _ALPACA_EXTRAS,
        kind=LabelledCompletion,
        labels=single.label_cells,
    ),
    Format(
        "helpsteer",
        "{prompt, response, helpfulness: 0 … 4, correctness, coherence, complexity, verbosity}",
        (*_EXCHANGE, ("helpfulness",)),
        single.read_helpsteer,
        single.is_helpsteer,
        kind=ScoredCompletion,
    ),
    Format(
        "scored",
        "{prompt, response, score: 0 … 1}",
        (*_EXCHANGE, single.SCORE_NAMES),
        single.read_scored,
        single.is_scored,
        (*paired.CONVERSATION_NAMES, *_ALPACA_EXTRAS),
        kind=ScoredCompletion,
    ),
    Format(
        "messages",
        "{messages: [{role, content}]} or {conversations: [{from, value}]}",
        (paired.CONVERSATION_NAMES,),
        single.read_messages,
        single.is_messages,
        kind=Demonstration,
    ),
    Format(
        "alpaca",
        "{instruction, input, output}",
        (("instruction",), ("output",)),
        single.read_alpaca,
        single.is_alpaca,
        _ALPACA_EXTRAS,
        kind=Demonstration,
    ),
    Format(
        "prompt-completion",
        "{prompt, completion}",
        _EXCHANGE,
        single.read_prompt_completion,
        single.is_prompt_completion,
        _ALPACA_EXTRAS,
        kind=Demonstration,
    ),
    Format("text", "{text}", (("text",),), single.read_text, single.is_text, kind=Demonstration),
    Format(
        "prompts",
        "{prompt} or {messages} that end with a user turn",
        ((*PROMPT_NAMES, *paired.CONVERSATION_NAMES),),
        single.read_prompt,
        single.is_prompt,
        _ALPACA_EXTRAS,
        kind=Record,
    ),
)
"""From the most specific format to the most general one: the first of several equally good matches is used."""


def all_formats() -> tuple[Format, ...]:
    """Those of installed plug-ins, which are preferred where both match, and palate's."""
    return (*all_plugins("formats").values(), *FORMATS)
