"""Where the turns of a conversation lie in its one rendering.

A prompt and its completion are rendered together, once, because a template may write the same prompt differently when
an answer follows (thinking blocks, default system texts, headers). Where each turn lies in that text is learnt from a
second rendering of the same *shape* (the roles and tools) whose contents are marks that cannot occur in data; shapes
are few, so this costs nothing. The text between the marks must then be found between the real contents. Where it is
not, because the template rewrites what it is given (it strips a thinking block, say), the turns of that conversation
are found by rendering it again with one content at a time replaced by a mark.

A conversation with tool calls or reasoning has no such shape, because templates write those in ways of their own. There
an assistant turn is what the rendering up to and including it adds to the generation prompt before it. What a template
leaves out of it would be lost in training, so such a row is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from palate.errors import DataError
from palate.records import Message, Messages
from palate.text.template import Template

_SHAPES_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Rendering:
    """A prompt with one completion as text.

    Attributes:
        text: the rendered chat, ending with the last trained character.
        boundary: where the prompt ends and the completion begins, in characters: where generation would begin.
        trained: spans [start, end) of `text`, in characters, that the assistant itself wrote in the completion.
        rewritten: whether the template changed a content, so that the turns had to be searched for.
    """

    text: str
    boundary: int
    trained: tuple[tuple[int, int], ...]
    rewritten: bool = False


@dataclass(frozen=True, slots=True)
class _Frame:
    """What surrounds one assistant turn: the text before its content, after it, and how it begins and ends.

    `generation` is the text after which a model would write this turn; None where that is no prefix of the chat.
    """

    before: str
    after: str
    generation: str | None
    end: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """The fixed text of all conversations with the same roles and tools: n + 1 literals around n contents."""

    literals: tuple[str, ...]
    frames: dict[int, _Frame]


class Renderer:
    """Renders conversations by one template and finds the assistant's turns in them."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._shapes: dict[tuple[tuple[str, ...], int, str | None], _Shape | None] = {}
        self._kept: dict[tuple[object, ...], str] = {}

    def __call__(self, prompt: Messages, completion: Messages, tools: str | None = None) -> Rendering:
        """Render a prompt with one of its completions.

        What counts as the assistant's own: its content and whatever the template writes between the generation prompt
        and the end-of-turn token, that token included; not the header of a turn, not white space after its end. Text
        after the last such turn is cut off. A template without an end-of-turn token gets the tokenizer's EOS after a
        final assistant turn.

        A turn that its row marks as not trained is context.

        Raises:
            DataError: the template refuses the conversation or leaves out tool calls or reasoning of it, or `tools` is
                not a JSON list.
        """
        messages = (*prompt, *completion)
        listed = parse_tools(tools)
        text = self.template.render(messages, tools=listed)
        turns = [i for i in range(len(prompt), len(messages)) if messages[i].role == "assistant"]
        plain = all(message.is_plain for message in messages)
        shape = self._shape(messages, len(prompt), tools, listed) if plain else None
        contents = _match(text, shape.literals, messages) if shape else None
        rewritten = contents is None
        if shape and contents is not None:
            spans = [_span_matched(contents[i], shape.frames[i]) for i in turns]
            boundary = spans[0][0] if turns[:1] == [len(prompt)] else _start(contents, len(prompt), len(text))
        elif plain:
            mark = _absent_mark(messages)
            spans = [_span_searched(text, self._frame(messages, i, listed, mark)) for i in turns]
            boundary = spans[0][0] if spans else len(text)
        else:
            self._check_kept(messages, len(prompt), text, tools, listed)
            found = [self._span_added(messages, i, listed, text) for i in turns]
            spans, rewritten = [span for span, _ in found], not all(clean for _, clean in found)
            boundary = spans[0][0] if spans else len(text)
        trained = [number for number, i in enumerate(turns) if messages[i].trained]
        if trained and turns[trained[-1]] == len(messages) - 1:
            text, spans[-1] = self._closed(text, spans[-1], shape, turns[-1])
        elif trained:
            text = text[: spans[trained[-1]][1]]
        return Rendering(text, boundary, tuple(spans[number] for number in trained), rewritten)

    def check_prompt(self, prompt: Messages, tools: str | None = None) -> None:
        """Refuses a conversation that is yet to be answered as a call refuses one with its answer; free for plain ones.

        Raises:
            DataError: the template refuses it or leaves out its tool calls.
        """
        if not all(message.is_plain for message in prompt):
            listed = parse_tools(tools)
            self._check_kept(prompt, len(prompt), self.template.render(prompt, tools=listed), tools, listed)

    def _span_added(
        self, messages: Messages, turn: int, tools: Sequence[Any] | None, text: str
    ) -> tuple[tuple[int, int], bool]:
        """The assistant's own text of one turn: from the generation prompt before it to the end of the chat with it.

        Says also whether the two are prefixes of `text`; where later turns change how this one is written, it is
        searched for with a mark as its content.
        """
        last = turn + 1 == len(messages)
        whole = text if last else self._rendered(messages[: turn + 1], tools)
        end = len(whole.rstrip())
        begun = self._rendered(messages[:turn], tools, generation=True)
        if begun == self._rendered(messages[:turn], tools) and self.template.answer_header.strip():
            begun += self.template.answer_header  # a template without generation prompts
        if begun and text.startswith(whole[:end]) and text.startswith(begun):
            return (len(begun), end), True
        frame = self._frame(messages, turn, tools, _absent_mark(messages))
        return _span_searched(text, frame), False

    def _rendered(self, messages: Messages, tools: Sequence[Any] | None, *, generation: bool = False) -> str:
        """The conversation as text, "" where the template does not render one that ends there."""
        try:
            return self.template.render(messages, tools=tools, generation=generation)
        except DataError:
            return ""

    def _check_kept(
        self, messages: Messages, first: int, text: str, tools: str | None, listed: Sequence[Any] | None
    ) -> None:
        """Refuses a conversation of which the template leaves out tool calls, text beside them, or trained reasoning.

        Whether it does is found once for conversations of one make-up, by rendering without each of them.
        """
        makeup = tuple(
            (turn.role, bool(turn.content), len(turn.tool_calls), bool(turn.reasoning_content), turn.trained)
            for turn in messages
        )
        key = (makeup, first, tools)
        if key not in self._kept:
            if len(self._kept) >= _SHAPES_KEPT:
                self._kept.clear()
            without = ((less, what) for less, what in _without(messages, first) if self._rendered(less, listed) == text)
            self._kept[key] = next((what for _, what in without), "")
        if lost := self._kept[key]:
            lost = lost if lost != _EARLIER_REASONING or self._keeps_reasoning else _NO_REASONING
            raise DataError(f"the chat template leaves out {lost}")
        for call in (call for turn in messages for call in turn.tool_calls):
            if isinstance(call.value, str) and call.arguments not in text:
                raise DataError(
                    f"the arguments of a call of {call.name} are no JSON, and the chat template does not render them "
                    f"as they are: {' '.join(call.arguments.split())[:60]}"
                )

    @cached_property
    def _keeps_reasoning(self) -> bool:
        """Whether the template renders the reasoning of a last answer at all."""
        thought = Message("assistant", "x", reasoning_content=_mark(0))
        return _mark(0) in self._rendered((Message("user", "x"), thought), None)

    def _closed(self, text: str, span: tuple[int, int], shape: _Shape | None, turn: int) -> tuple[str, tuple[int, int]]:
        """`text` up to the end of its final assistant turn, with EOS where the template ends a turn by nothing."""
        start, end = span
        text = text[:end]
        ends = shape.frames[turn].end if shape else self.template.end_of_turn
        if not ends or not text.endswith(ends):
            eos = str(self.template.tokenizer.eos_token or "")
            text += "" if text.endswith(eos) else eos
        return text, (start, len(text))

    def _shape(self, messages: Messages, first: int, tools: str | None, listed: Sequence[Any] | None) -> _Shape | None:
        """The shape of a conversation whose completion begins at message `first`; None where contents are not kept."""
        key = (tuple(message.role for message in messages), first, tools)
        if key not in self._shapes:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            self._shapes[key] = self._learn(key[0], first, listed)
        return self._shapes[key]

    def _learn(self, roles: tuple[str, ...], first: int, tools: Sequence[Any] | None) -> _Shape | None:
        marks = [_mark(i) for i in range(len(roles))]
        messages = tuple(Message(role, mark) for role, mark in zip(roles, marks, strict=True))  # type: ignore[arg-type]
        text = self.template.render(messages, tools=tools)
        places = [text.find(mark) for mark in marks]
        once = all(text.count(mark) == 1 for mark in marks)
        if not once or any(left >= right for left, right in pairwise(places)):
            return None
        edges = [0, *(edge for place, mark in zip(places, marks) for edge in (place, place + len(mark))), len(text)]
        literals = tuple(text[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2))
        turns = [i for i in range(first, len(roles)) if roles[i] == "assistant"]
        frames = {i: self._frame(messages, i, tools, marks[i]) for i in turns}
        return _Shape(literals, frames)

    def _frame(self, messages: Messages, turn: int, tools: Sequence[Any] | None, mark: str) -> _Frame:
        """The surroundings of one assistant turn, with `mark` as its content."""
        marked = (*messages[:turn], Message("assistant", mark), *messages[turn + 1 :])
        before, _, after = self.template.render(marked, tools=tools).partition(mark)
        generation = self._generation(messages[:turn], before, tools)
        if turn + 1 == len(messages):
            return _Frame(before, after, generation, after.rstrip())
        # What follows the turn both at the end of a chat and before another turn, whatever that one says.
        following = replace(messages[turn + 1], content=f"next{mark}")
        between = self.template.render((*marked[: turn + 1], following, *messages[turn + 2 :]), tools=tools)
        try:
            alone = self.template.render(marked[: turn + 1], tools=tools).partition(mark)[2]
        except DataError:
            alone = ""
        then = between.partition(mark)[2]
        return _Frame(before, after, generation, then[: _common(alone, then)].rstrip())

    def _generation(self, prompt: Messages, before: str, tools: Sequence[Any] | None) -> str | None:
        """The generation prompt after `prompt`, if it is what stands `before` the answer or the beginning of that."""
        try:
            text = self.template.render(prompt, tools=tools, generation=True)
            bare = self.template.render(prompt, tools=tools)
        except DataError:
            return None
        rest = before[len(text) :]
        # A template that ignores the wish for a generation prompt leaves the answer's header out of it.
        return text if before.startswith(text) and (text != bare or not rest.strip()) else None


_NO_CALLS = (
    "tool calls; name a template that has them (template: qwen), or write the calls into the text of the answers"
)
_NO_TEXT = "the text beside tool calls; take it out of the row, or name a template that renders both (template: qwen)"
_NO_REASONING = (
    "the reasoning of an answer that is trained; use a model whose template renders reasoning_content, or write it "
    "into the text of the answers (<think>…</think>)"
)
_EARLIER_REASONING = (
    "the reasoning of an earlier answer, as at inference, so that it cannot be trained; mark that turn train: false, "
    "set mask_history: true (sft), or make one row per answer"
)


def _without(messages: Messages, first: int) -> Iterator[tuple[Messages, str]]:
    """The conversation without each thing that must be rendered, and what to say if it is not."""
    last = max((i for i, turn in enumerate(messages) if turn.role == "assistant"), default=-1)
    for i, turn in enumerate(messages):
        less: list[tuple[Message, str]] = []
        for number in range(len(turn.tool_calls)):
            calls = turn.tool_calls[:number] + turn.tool_calls[number + 1 :]
            less.append((replace(turn, tool_calls=calls), _NO_CALLS))
        if turn.tool_calls and turn.content.strip():
            less.append((replace(turn, content=""), _NO_TEXT))
        if turn.reasoning_content and turn.trained and i >= first:
            less.append((replace(turn, reasoning_content=None), _NO_REASONING if i == last else _EARLIER_REASONING))
        for changed, what in less:
            yield (*messages[:i], changed, *messages[i + 1 :]), what


def parse_tools(tools: str | None) -> list[Any] | None:
    """A record's tool specifications as objects.

    Raises:
        DataError: the text is not a JSON list.
    """
    if not tools:
        return None
    try:
        listed = json.loads(tools)
    except json.JSONDecodeError as error:
        raise DataError(f"tools is not JSON: {error}") from error
    if not isinstance(listed, list):
        raise DataError("tools is not a JSON list")
    return listed or None


def _mark(number: int) -> str:
    """Private-use characters, around a number: no template takes that for text of its own."""
    return f"\ue0f1{number}\ue0f2"


def _absent_mark(messages: Messages) -> str:
    """A mark that none of the contents has."""
    mark = "\ue0f1turn\ue0f2"
    while any(mark in message.text for message in messages):
        mark += "\ue0f2"
    return mark


def _match(text: str, literals: Sequence[str], messages: Messages) -> list[tuple[int, int]] | None:
    """Spans of the contents in `text`, if it is the literals with the contents, perhaps trimmed, between them."""
    if not text.startswith(literals[0]):
        return None
    at = len(literals[0])
    spans = []
    for message, literal in zip(messages, literals[1:], strict=True):
        content = message.content
        for shown in (content, content.strip(), content.rstrip(), content.lstrip()):
            if text.startswith(shown, at) and text.startswith(literal, at + len(shown)):
                break
        else:
            return None
        spans.append((at, at + len(shown)))
        at += len(shown) + len(literal)
    return spans if at == len(text) else None


def _start(spans: Sequence[tuple[int, int]], index: int, otherwise: int) -> int:
    return spans[index][0] if index < len(spans) else otherwise


def _span_matched(content: tuple[int, int], frame: _Frame) -> tuple[int, int]:
    """The assistant's own text around a content whose place is known."""
    lead = len(frame.before) - len(frame.generation) if frame.generation is not None else 0
    return content[0] - lead, content[1] + len(frame.end)


def _span_searched(text: str, frame: _Frame) -> tuple[int, int]:
    """The assistant's own text in a rendering that differs from the frame's only between `before` and `after`."""
    start = _common(text, frame.before)
    if frame.generation is not None and text.startswith(frame.generation):
        start = len(frame.generation)
    end = len(text) - _common(text[start:][::-1], frame.after[::-1])
    return start, end + len(frame.end) if text.startswith(frame.end, end) else end


def _common(left: str, right: str) -> int:
    """Length of the longest common prefix."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if left[low:middle] == right[low:middle] else (low, middle - 1)
    return low
