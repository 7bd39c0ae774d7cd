"""Removes the prompt from answers that repeat it; used for every format and kind of record.

An answer may be a whole conversation (turns that begin with a system or user turn, or a transcript), or a text that
begins with the text of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from palate.data.turns.cells import RowError, excerpt
from palate.data.turns.messages import is_transcript, merged, read_transcript
from palate.records import Message, Messages


def split_answers(
    prompt: Messages, answers: Sequence[Messages], names: Sequence[str] = (), *, repeats_prompt: bool = False
) -> tuple[Messages, tuple[Messages, ...], bool]:
    """Splits each answer into prompt and completion.

    Args:
        repeats_prompt: whether to remove the prompt's text from the beginning of answers that are texts.

    Returns:
        (prompt, answers without it, whether all answers are texts that began with the text of the prompt)

    Raises:
        RowError: `diverges`: whole conversations differ before the last user turn; `prompt_differs`: they do not
            contain the prompt; `equal`: all of them are equal.
    """
    names = names or [f"answer {number + 1}" if len(answers) > 1 else "the answer" for number in range(len(answers))]
    answers = [_transcript_as_turns(prompt, answer) for answer in answers]
    whole = [_has_prompt(answer) for answer in answers]
    if not any(whole):
        repeated = bool(answers) and all(_begins_with(prompt, answer) for answer in answers)
        if repeated and repeats_prompt:
            answers = [_without_prompt_text(prompt, answer) for answer in answers]
        return prompt, tuple(answers), repeated
    if len(answers) > 1 and all(whole):
        shared, completions = _split_at_shared(answers, names)
        if not prompt or _end_of_prompt(prompt, shared) is not None:
            return _with_system_of(prompt, shared), completions, False
        raise _differs(prompt, shared, names[0])
    if len(answers) == 1:
        (conversation,) = answers
        end = _end_of_prompt(prompt, conversation) if prompt else _last_answer(conversation)
        if end is None:
            raise _differs(prompt, conversation, names[0])
        return _with_system_of(prompt, conversation[:end]), (conversation[end:],), False
    if not prompt:
        bare = names[whole.index(False)]
        raise RowError("prompt_differs", f"{bare} has no prompt, another answer is a whole conversation")
    completions = tuple(
        _after_prompt(prompt, answer, name) if has_prompt else answer
        for answer, has_prompt, name in zip(answers, whole, names, strict=True)
    )
    return prompt, completions, False


def _has_prompt(answer: Messages) -> bool:
    """Whether an answer is a whole conversation: prompt and answer."""
    return bool(answer) and answer[0].role in ("system", "user") and any(turn.role == "assistant" for turn in answer)


def _split_at_shared(sides: Sequence[Messages], names: Sequence[str]) -> tuple[Messages, tuple[Messages, ...]]:
    """The turns that whole conversations share before their last answers, and the completions after them."""
    first, shared = sides[0], 0
    shortest = min(len(side) for side in sides)
    while shared < shortest and all(_same(side[shared], first[shared]) for side in sides[1:]):
        shared += 1
    if all(len(side) == shared for side in sides):
        raise RowError("equal", f"{' and '.join(names)} are equal: {excerpt(first[-1].text) if first else ''}")
    while shared and first[shared - 1].role == "assistant":
        shared -= 1
    completions = tuple(side[shared:] for side in sides)
    for name, completion in zip(names, completions, strict=True):
        if any(message.role in ("user", "system") for message in completion):
            raise RowError("diverges", f"{name} differs from the other before the last user turn (turn {shared + 1})")
    return first[:shared], completions


def _same(left: Message, right: Message) -> bool:
    """Whether two turns are equal apart from their training flags."""
    return left == right or replace(left, trained=True) == replace(right, trained=True)


def _same_text(left: Message, right: Message) -> bool:
    """Whether two turns have the same role and text, apart from white space at both ends."""
    return left.role == right.role and left.text.strip() == right.text.strip()


def _turns(messages: Messages) -> Messages:
    """The turns after the system text."""
    return messages[1:] if messages and messages[0].role == "system" else messages


def _systems_differ(left: Messages, right: Messages) -> bool:
    heads = [messages[0] for messages in (left, right) if messages and messages[0].role == "system"]
    return len(heads) == 2 and not _same_text(heads[0], heads[1])


def _with_system_of(prompt: Messages, conversation: Messages) -> Messages:
    """The conversation, with the prompt's system text in front if it has none of its own."""
    if prompt and prompt[0].role == "system" and conversation[:1] and conversation[0].role != "system":
        return (prompt[0], *conversation)
    return conversation


def _end_of_prompt(prompt: Messages, conversation: Messages) -> int | None:
    """The index after the prompt's turns in a conversation: at its beginning, or else at their last occurrence.

    None if it does not contain them in one piece, or has another system text.
    """
    if _systems_differ(prompt, conversation):
        return None
    turns, first = _turns(prompt), len(conversation) - len(_turns(conversation))
    fits = [
        start
        for start in range(first, len(conversation) - len(turns) + 1)
        if all(_same_text(a, b) for a, b in zip(turns, conversation[start:], strict=False))
    ]
    if not fits:
        return None
    return (first if first in fits else fits[-1]) + len(turns)


def _last_answer(conversation: Messages) -> int:
    """The index of the last answer: the assistant and tool turns at the end."""
    start = len(conversation)
    while start and conversation[start - 1].role in ("assistant", "tool"):
        start -= 1
    return start


def _after_prompt(prompt: Messages, conversation: Messages, name: str) -> Messages:
    start = _end_of_prompt(prompt, conversation)
    if start is None or any(message.role in ("user", "system") for message in conversation[start:]):
        raise _differs(prompt, conversation, name)
    return conversation[start:]


def _differs(prompt: Messages, conversation: Messages, name: str) -> RowError:
    if _systems_differ(prompt, conversation):
        return RowError("prompt_differs", f"{name} has another system text: {excerpt(conversation[0].content)}")
    question = excerpt(_turns(prompt)[-1].content if _turns(prompt) else "")
    return RowError("prompt_differs", f"{name} is a whole conversation without the prompt in it: {question}")


def _transcript_as_turns(prompt: Messages, answer: Messages) -> Messages:
    """The turns of an answer that is an HH transcript with this prompt; any other answer unchanged."""
    if len(answer) != 1 or not prompt or not is_transcript(answer[0].content):
        return answer
    turns = merged(read_transcript(answer[0].content, "the answer"))
    return answer if _end_of_prompt(prompt, turns) is None else turns


def _begins_with(prompt: Messages, answer: Messages) -> bool:
    """Whether an answer is a text that begins with the text of a one-turn prompt and is longer."""
    turns = _turns(prompt)
    if len(turns) != 1 or len(answer) != 1:
        return False
    question, content = turns[0].content.strip(), answer[0].content.lstrip()
    return bool(question) and content.startswith(question) and len(content) > len(question)


def _without_prompt_text(prompt: Messages, answer: Messages) -> Messages:
    content = answer[0].content.lstrip()[len(_turns(prompt)[0].content.strip()) :]
    return (replace(answer[0], content=content.strip()),)
