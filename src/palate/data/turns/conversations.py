"""Answers that repeat their conversation: one rule takes the prompt off, for every format and kind of record.

An answer may be given as the whole conversation (a list that begins with a system or user turn, or a transcript), or as
a text that begins with the whole text of the prompt. What stands before the answer is the prompt.
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
    """(prompt, answers without it, whether all answers are texts that began with the text of the prompt).

    Args:
        prompt: as the row gives it; empty where the answers alone say what it is.
        answers: K answers as the row gives them.
        names: what messages call them.
        repeats_prompt: take the prompt's text off the beginning of answers that are texts.

    Raises:
        RowError: `diverges` where whole conversations part before the last user turn, `prompt_differs` where they are
            not about the prompt, `equal` where two are the same.
    """
    names = names or [f"answer {number + 1}" if len(answers) > 1 else "the answer" for number in range(len(answers))]
    answers = [_untranscribed(prompt, answer) for answer in answers]
    whole = [_is_whole(answer) for answer in answers]
    if not any(whole):
        repeated = bool(answers) and all(_begins_with(prompt, answer) for answer in answers)
        if repeated and repeats_prompt:
            answers = [_text_taken_off(prompt, answer) for answer in answers]
        return prompt, tuple(answers), repeated
    if len(answers) > 1 and all(whole):
        shared, rests = _parted(answers, names)
        if not prompt or _holds(shared, prompt):
            return _with_system_of(prompt, shared), rests, False
        raise _differs(prompt, shared, names[0])
    if not prompt:
        if not all(whole):
            bare = names[whole.index(False)]
            raise RowError("prompt_differs", f"{bare} has no prompt, another answer holds a whole conversation")
        (conversation,) = answers
        start = _last_answer(conversation)
        return conversation[:start], (conversation[start:],), False
    if len(answers) == 1:
        (conversation,) = answers
        end = _end_of_prompt(prompt, conversation)
        if end is None:
            raise _differs(prompt, conversation, names[0])
        return _with_system_of(prompt, conversation[:end]), (conversation[end:],), False
    rests = tuple(
        _after(prompt, answer, name) if is_whole else answer
        for answer, is_whole, name in zip(answers, whole, names, strict=True)
    )
    return prompt, rests, False


def _is_whole(answer: Messages) -> bool:
    """Whether an answer starts before itself. Without an answer in it, it is no conversation to split."""
    return bool(answer) and answer[0].role in ("system", "user") and any(turn.role == "assistant" for turn in answer)


def _parted(sides: Sequence[Messages], names: Sequence[str]) -> tuple[Messages, tuple[Messages, ...]]:
    """What whole conversations share up to the answers compared, and those."""
    first, shared = sides[0], 0
    shortest = min(len(side) for side in sides)
    while shared < shortest and all(_same(side[shared], first[shared]) for side in sides[1:]):
        shared += 1
    if len(sides) > 1 and all(len(side) == shared for side in sides):
        raise RowError("equal", f"{' and '.join(names)} are equal: {excerpt(first[-1].text) if first else ''}")
    while shared and first[shared - 1].role == "assistant":
        shared -= 1
    rests = tuple(side[shared:] for side in sides)
    for name, rest in zip(names, rests, strict=True):
        if any(message.role in ("user", "system") for message in rest):
            raise RowError("diverges", f"{name} parts from the other before the last user turn (turn {shared + 1})")
    return first[:shared], rests


def _same(left: Message, right: Message) -> bool:
    """Whether two turns are rendered alike; their training flags aside."""
    return left == right or replace(left, trained=True) == replace(right, trained=True)


def _alike(left: Message, right: Message) -> bool:
    """Whether two turns say the same, white space at their ends aside."""
    return left.role == right.role and left.text.strip() == right.text.strip()


def _turns(messages: Messages) -> Messages:
    """Without the system text in front."""
    return messages[1:] if messages and messages[0].role == "system" else messages


def _holds(conversation: Messages, prompt: Messages) -> bool:
    """Whether the turns of a prompt stand together somewhere in a conversation, and its system text is no other."""
    wanted, found = _turns(prompt), _turns(conversation)
    if _systems_differ(prompt, conversation):
        return False
    return any(
        all(_alike(a, b) for a, b in zip(wanted, found[start:], strict=False))
        for start in range(len(found) - len(wanted) + 1)
    )


def _systems_differ(left: Messages, right: Messages) -> bool:
    heads = [messages[0] for messages in (left, right) if messages and messages[0].role == "system"]
    return len(heads) == 2 and not _alike(heads[0], heads[1])


def _with_system_of(prompt: Messages, conversation: Messages) -> Messages:
    """The conversation, with the prompt's system text in front if it has none of its own."""
    if prompt and prompt[0].role == "system" and conversation[:1] and conversation[0].role != "system":
        return (prompt[0], *conversation)
    return conversation


def _end_of_prompt(prompt: Messages, conversation: Messages) -> int | None:
    """Where the answer begins in one conversation: behind the prompt's turns, at its start or else the last time."""
    if _systems_differ(prompt, conversation):
        return None
    wanted, head = _turns(prompt), len(conversation) - len(_turns(conversation))
    places = range(len(conversation) - len(wanted), head - 1, -1)
    fits = [place for place in places if all(_alike(a, b) for a, b in zip(wanted, conversation[place:], strict=False))]
    if not fits:
        return None
    start = head if head in fits else fits[0]
    return start + len(wanted)


def _last_answer(conversation: Messages) -> int:
    """Where the last answer begins: the assistant's and the tools' turns at the end."""
    start = len(conversation)
    while start and conversation[start - 1].role in ("assistant", "tool"):
        start -= 1
    return start


def _after(prompt: Messages, conversation: Messages, name: str) -> Messages:
    start = _end_of_prompt(prompt, conversation)
    if start is None or any(message.role in ("user", "system") for message in conversation[start:]):
        raise _differs(prompt, conversation, name)
    return conversation[start:]


def _differs(prompt: Messages, conversation: Messages, name: str) -> RowError:
    if _systems_differ(prompt, conversation):
        return RowError("prompt_differs", f"{name} has another system text: {excerpt(conversation[0].content)}")
    asked = excerpt(_turns(prompt)[-1].content if _turns(prompt) else "")
    return RowError("prompt_differs", f"{name} is a whole conversation without the prompt in it: {asked}")


def _untranscribed(prompt: Messages, answer: Messages) -> Messages:
    """An answer that is a `Human: … Assistant: …` transcript about this very prompt, as turns."""
    if len(answer) != 1 or not prompt or not is_transcript(answer[0].content):
        return answer
    turns = merged(read_transcript(answer[0].content, "the answer"))
    return turns if _holds(turns, prompt) else answer


def _begins_with(prompt: Messages, answer: Messages) -> bool:
    """Whether a text answer begins with the whole text of a one-turn prompt and goes on."""
    asked = _turns(prompt)
    if len(asked) != 1 or len(answer) != 1:
        return False
    question, said = asked[0].content.strip(), answer[0].content.lstrip()
    return bool(question) and said.startswith(question) and len(said) > len(question)


def _text_taken_off(prompt: Messages, answer: Messages) -> Messages:
    said = answer[0].content.lstrip()[len(_turns(prompt)[0].content.strip()) :]
    return (replace(answer[0], content=said.strip()),)
