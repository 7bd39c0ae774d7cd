"""Finds the assistant's turns in a rendered conversation.

A prompt and its completion are rendered together, once, because a template may write the same prompt differently when
an answer follows (thinking blocks, default system texts, headers). There are three ways to find the turns:

- **Match.** A second rendering of the same roles and tools, with a placeholder for each content, gives the template's
  own text around the contents. It is kept for the next conversation with the same roles and tools. The turns are found
  by matching that text and the real contents.
- **Search.** If the template rewrites a content (for example, strips a thinking block), the conversation is rendered
  again with one content at a time replaced by a placeholder.
- **Prefixes.** Templates write tool calls and reasoning in different ways. In such a conversation, the text of an
  assistant turn is the rendering up to and including this turn, minus the generation prompt before it. A row is refused
  if the template leaves out a tool call or reasoning, which would not be trained then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

from palate.errors import DataError
from palate.records import Message, Messages
from palate.text.template import Template

_SHAPES_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Rendering:
    """A prompt with one completion as text.

    Attributes:
        text: the rendered chat, up to its last trained character.
        boundary: index of the character at which the completion (and generation) begins.
        trained: spans [start, end) of characters that the assistant itself wrote in the completion.
        rewritten: whether the template changed a content, so that the turns had to be searched for.
    """

    text: str
    boundary: int
    trained: tuple[tuple[int, int], ...]
    rewritten: bool = False


@dataclass(frozen=True, slots=True)
class _Frame:
    """The template's text around the content of one assistant turn.

    Attributes:
        before: everything before the content.
        after: everything after it.
        generation: the generation prompt of this turn; None if it is not a prefix of the chat.
        end: the part of `after` that ends the turn.
    """

    before: str
    after: str
    generation: str | None
    end: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """The template's text in all conversations with the same roles and tools.

    Attributes:
        literals: the n + 1 texts before, between and after the n contents.
        frames: for each assistant turn of the completion, by its index.
    """

    literals: tuple[str, ...]
    frames: dict[int, _Frame]


class Renderer:
    """Renders conversations with one template and finds the assistant's turns in them."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self._shapes: dict[tuple[tuple[str, ...], int, str | None], _Shape | None] = {}
        self._left_out: dict[tuple[object, ...], str] = {}

    def __call__(self, prompt: Messages, completion: Messages, tools: str | None = None) -> Rendering:
        """Render a prompt with one of its completions.

        The trained text of an assistant turn is everything between the generation prompt and the end-of-turn token,
        including that token. A turn's header and white space after its end are not trained. The text after the last
        trained turn is removed. If the template has no end-of-turn token, the tokenizer's EOS is added after a final
        assistant turn. Turns that the row marks as not trained are context.

        Raises:
            DataError: the template refuses the conversation or leaves out tool calls or reasoning, or `tools` is not a
                JSON list.
        """
        messages = (*prompt, *completion)
        text = self.template.render(messages, tools=tools)
        turns = [i for i in range(len(prompt), len(messages)) if messages[i].role == "assistant"]
        plain = all(message.is_plain for message in messages)
        shape = self._shape(messages, len(prompt), tools) if plain else None
        contents = _match(text, shape.literals, messages) if shape else None
        rewritten = contents is None
        if shape and contents is not None:
            spans = [_span_matched(contents[i], shape.frames[i]) for i in turns]
        elif plain:
            placeholder = _unused_placeholder(messages)
            spans = [_span_searched(text, self._frame(messages, i, tools, placeholder)) for i in turns]
        else:
            self._refuse_left_out(messages, len(prompt), text, tools)
            found = [self._span_by_prefixes(messages, i, tools, text) for i in turns]
            spans, rewritten = [span for span, _ in found], not all(clean for _, clean in found)
        boundary = spans[0][0] if spans else len(text)
        if contents is not None and completion and completion[0].role != "assistant":
            boundary = contents[len(prompt)][0]
        trained = [number for number, i in enumerate(turns) if messages[i].trained]
        if trained and turns[trained[-1]] == len(messages) - 1:
            text, spans[-1] = self._closed(text, spans[-1], shape, turns[-1])
        elif trained:
            text = text[: spans[trained[-1]][1]]
        return Rendering(text, boundary, tuple(spans[number] for number in trained), rewritten)

    def check_prompt(self, prompt: Messages, tools: str | None = None) -> None:
        """Check a prompt that has no answer yet.

        Raises:
            DataError: the template refuses the prompt or leaves out its tool calls.
        """
        if not all(message.is_plain for message in prompt):
            self._refuse_left_out(prompt, len(prompt), self.template.render(prompt, tools=tools), tools)

    def _span_by_prefixes(
        self, messages: Messages, turn: int, tools: str | None, text: str
    ) -> tuple[tuple[int, int], bool]:
        """The span of one turn, and whether it was found by prefixes.

        If later turns change how this turn is written, the prefixes do not match and the turn is searched for with a
        placeholder.
        """
        last = turn + 1 == len(messages)
        whole = text if last else self._rendered(messages[: turn + 1], tools)
        end = len(whole.rstrip())
        generation = self._rendered(messages[:turn], tools, generation=True)
        if generation == self._rendered(messages[:turn], tools) and self.template.answer_header.strip():
            generation += self.template.answer_header  # a template without generation prompts
        if generation and text.startswith(whole[:end]) and text.startswith(generation):
            return (len(generation), end), True
        frame = self._frame(messages, turn, tools, _unused_placeholder(messages))
        return _span_searched(text, frame), False

    def _rendered(self, messages: Messages, tools: str | None, *, generation: bool = False) -> str:
        """The conversation as text; "" if the template refuses it."""
        try:
            return self.template.render(messages, tools=tools, generation=generation)
        except DataError:
            return ""

    def _refuse_left_out(self, messages: Messages, first: int, text: str, tools: str | None) -> None:
        """Raise DataError if the template leaves out tool calls, text next to them, or trained reasoning.

        A part is left out if the rendering without it is the same. This is tested once for all conversations with the
        same kinds of parts.
        """
        parts = tuple(
            (turn.role, bool(turn.content), len(turn.tool_calls), bool(turn.reasoning_content), turn.trained)
            for turn in messages
        )
        key = (parts, first, tools)
        if key not in self._left_out:
            if len(self._left_out) >= _SHAPES_KEPT:
                self._left_out.clear()
            found = (part for less, part in _without(messages, first) if self._rendered(less, tools) == text)
            self._left_out[key] = next(found, "")
        if part := self._left_out[key]:
            part = part if part != _EARLIER_REASONING or self._keeps_reasoning else _NO_REASONING
            raise DataError(f"the chat template leaves out {part}")
        for call in (call for turn in messages for call in turn.tool_calls):
            if isinstance(call.value, str) and call.arguments not in text:
                raise DataError(
                    f"the arguments of a call of {call.name} are no JSON, and the chat template does not render them "
                    f"as they are: {' '.join(call.arguments.split())[:60]}"
                )

    @cached_property
    def _keeps_reasoning(self) -> bool:
        """Whether the template renders the reasoning of the last answer."""
        thought = Message("assistant", "x", reasoning_content=_placeholder(0))
        return _placeholder(0) in self._rendered((Message("user", "x"), thought), None)

    def _closed(self, text: str, span: tuple[int, int], shape: _Shape | None, turn: int) -> tuple[str, tuple[int, int]]:
        """`text` up to the end of its final assistant turn, with EOS if the template writes no end of turn."""
        start, end = span
        text = text[:end]
        ends = shape.frames[turn].end if shape else self.template.end_of_turn
        if not ends or not text.endswith(ends):
            eos = str(self.template.tokenizer.eos_token or "")
            text += "" if text.endswith(eos) else eos
        return text, (start, len(text))

    def _shape(self, messages: Messages, first: int, tools: str | None) -> _Shape | None:
        """The shape of a conversation whose completion begins at message `first`; None if contents are rewritten."""
        key = (tuple(message.role for message in messages), first, tools)
        if key not in self._shapes:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            contents = [_placeholder(i) for i in range(len(messages))]
            self._shapes[key] = self._find_shape(
                tuple(Message(message.role, text) for message, text in zip(messages, contents, strict=True)),
                first,
                tools,
            )
        return self._shapes[key]

    def _find_shape(self, messages: Messages, first: int, tools: str | None) -> _Shape | None:
        """The shape of a conversation whose contents are placeholders."""
        text = self.template.render(messages, tools=tools)
        contents = [message.content for message in messages]
        starts = [text.find(content) for content in contents]
        once = all(text.count(content) == 1 for content in contents)
        if not once or any(left >= right for left, right in pairwise(starts)):
            return None
        ends = [start + len(content) for start, content in zip(starts, contents, strict=True)]
        literals = tuple(text[a:b] for a, b in zip([0, *ends], [*starts, len(text)], strict=True))
        turns = [i for i in range(first, len(messages)) if messages[i].role == "assistant"]
        return _Shape(literals, {i: self._frame(messages, i, tools, contents[i]) for i in turns})

    def _frame(self, messages: Messages, turn: int, tools: str | None, placeholder: str) -> _Frame:
        """The frame of one assistant turn, found with `placeholder` as its content."""
        changed = (*messages[:turn], Message("assistant", placeholder), *messages[turn + 1 :])
        before, _, after = self.template.render(changed, tools=tools).partition(placeholder)
        generation = self._generation(messages[:turn], before, tools)
        if turn + 1 == len(messages):
            return _Frame(before, after, generation, after.rstrip())
        # The end of a turn is the text that follows it both at the end of a chat and before another turn.
        following = replace(messages[turn + 1], content=f"next{placeholder}")
        between = self.template.render((*changed[: turn + 1], following, *messages[turn + 2 :]), tools=tools)
        alone = self._rendered(changed[: turn + 1], tools).partition(placeholder)[2]
        then = between.partition(placeholder)[2]
        return _Frame(before, after, generation, then[: _common(alone, then)].rstrip())

    def _generation(self, prompt: Messages, before: str, tools: str | None) -> str | None:
        """The generation prompt after `prompt`, if the text `before` the answer begins with it."""
        try:
            text = self.template.render(prompt, tools=tools, generation=True)
            bare = self.template.render(prompt, tools=tools)
        except DataError:
            return None
        rest = before[len(text) :]
        # If the template ignores add_generation_prompt, `text` lacks the answer's header.
        return text if before.startswith(text) and (text != bare or not rest.strip()) else None


_NO_CALLS = (
    "tool calls; name a template that has them (template: qwen), or write the calls into the text of the answers"
)
_NO_TEXT = "the text next to tool calls; remove it from the row, or name a template that renders both (template: qwen)"
_NO_REASONING = (
    "the reasoning of an answer that is trained; use a model whose template renders reasoning_content, or write it "
    "into the text of the answers (<think>…</think>)"
)
_EARLIER_REASONING = (
    "the reasoning of an earlier answer, as at inference, so that it cannot be trained; mark that turn train: false, "
    "set mask_history: true (sft), or make one row per answer"
)


def _without(messages: Messages, first: int) -> Iterator[tuple[Messages, str]]:
    """For each part that must be rendered: the conversation without it, and its description for the error."""
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
        for changed, part in less:
            yield (*messages[:i], changed, *messages[i + 1 :]), part


def _placeholder(number: int) -> str:
    """A number between private-use characters, which no template contains."""
    return f"\ue0f1{number}\ue0f2"


def _unused_placeholder(messages: Messages) -> str:
    """A placeholder that occurs in none of the contents."""
    placeholder = "\ue0f1turn\ue0f2"
    while any(placeholder in message.text for message in messages):
        placeholder += "\ue0f2"
    return placeholder


def _match(text: str, literals: Sequence[str], messages: Messages) -> list[tuple[int, int]] | None:
    """Spans of the contents in `text` if it consists of the literals and the contents, trimmed or not; else None."""
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


def _span_matched(content: tuple[int, int], frame: _Frame) -> tuple[int, int]:
    """The span of the assistant's own text, from the span of its content."""
    lead = len(frame.before) - len(frame.generation) if frame.generation is not None else 0
    return content[0] - lead, content[1] + len(frame.end)


def _span_searched(text: str, frame: _Frame) -> tuple[int, int]:
    """The span of the assistant's own text in a rendering that differs from the frame only in the turn's content."""
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
