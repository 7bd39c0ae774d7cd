"""`palate chat`: a conversation with one model in the terminal, or with two whose answers are compared."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from palate.cli.arguments import BaseUrl, MaxNewTokens, PrecisionName, TemplateName
from palate.cli.models import load_streams
from palate.errors import UsageError

Model = Annotated[
    str, Argument(metavar="MODEL", help="A run, a checkpoint, a model folder, a hub id or openai:MODEL@URL.")
]
Against = Annotated[
    str | None, Option("--against", metavar="MODEL2", help="A second model; you say whose answer is better.")
]
System = Annotated[str | None, Option("--system", metavar="TEXT", help="System prompt.")]
Temperature = Annotated[float, Option("--temperature", min=0, help="0 takes the likeliest token.")]
TopP = Annotated[float, Option("--top-p", min=0.01, max=1, help="Nucleus (top-p) sampling.")]
Seed = Annotated[int, Option("--seed", min=0, help="Base of the seeds of the answers.")]
Save = Annotated[
    Path | None,
    Option("--save", metavar="FILE.jsonl", help="With --against: append each decided pair to this file at once."),
]
Blind = Annotated[bool, Option("--blind/--named", help="With --against: hide which model an answer is of, or name it.")]


def command(
    model: Model,
    against: Against = None,
    base_url: BaseUrl = None,
    system: System = None,
    temperature: Temperature = 0.7,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = 512,
    seed: Seed = 42,
    save: Save = None,
    blind: Blind = True,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
) -> None:
    """Talk to a model. Ctrl-C stops an answer; /help lists the commands. A question may come from a pipe.

    Example: palate chat runs/dpo --against smollm2-135m-instruct --save p.jsonl
    """
    if save is not None and against is None:
        raise UsageError("--save keeps the better one of two answers; name the second model with --against")
    piped = None if sys.stdin is not None and sys.stdin.isatty() else _read_question(against)

    from palate.cli.chat.answers import Compared, Dialogue, Single
    from palate.cli.chat.session import ChatSession
    from palate.feedback.page.chat import Chat
    from palate.feedback.page.save import PreferenceFile
    from palate.models.generation.decoding import Decoding

    dialogue = Dialogue(Decoding(max_new_tokens, temperature, top_p, seed), system)
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(PreferenceFile(save)) if save is not None else None
        names = (model,) if against is None else (model, against)
        streams = load_streams(names, base_url, template=template, precision=precision)
        if piped is not None:
            Single(streams[0]).answer(dialogue, piped)
        elif against is None:
            ChatSession(dialogue, Single(streams[0])).run()
        else:
            Chat(streams[0], streams[1], dialogue.decoding)  # raises if the answers to every prompt would be equal
            order = random.Random() if blind else None  # noqa: S311 - the order of two answers is no secret
            ChatSession(dialogue, Compared(streams[0], streams[1], order), file).run()


def _read_question(against: str | None) -> str:
    """All that a pipe or a file on standard input has, as one question."""
    if against is not None:
        raise UsageError("--against asks you which answer is better; standard input must be a terminal")
    question = sys.stdin.read().strip() if sys.stdin is not None else ""
    if not question:
        raise UsageError("standard input is no terminal and has no question; write e.g. echo hi | palate chat MODEL")
    return question
