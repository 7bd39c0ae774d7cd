"""The free prompt: a person writes a prompt, two models answer, streamed and blind, and the person votes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from palate.errors import PalateError, UsageError
from palate.feedback.page.chat import Chat, ChatEvent, Ended, Failed, Piece, Side
from palate.feedback.page.free_prompts import (
    CAMPAIGN,
    conversation_after,
    exchange_row,
    has_open_exchange,
    last_vote,
    record_exchange,
)
from palate.feedback.queue.assignment import Assignment
from palate.feedback.queue.voting import next_assignment
from palate.feedback.votes import Shown
from palate.records import Message, Messages
from palate.web.label.ballots import NOTICES, OTHERS, VERDICTS, SentForm, text_field
from palate.web.label.conversation import prompt_blocks
from palate.web.label.voting import cast, history, take_back
from palate.web.pages import render
from palate.web.problems import wants_page
from palate.web.security.people import Annotator, Person
from palate.web.state import State, state

_LOG = logging.getLogger("palate.web")

router = APIRouter(prefix="/ask")

LONGEST_PROMPT = 20_000
"""Characters of one turn."""

_KEEP_ALIVE_SECONDS = 10.0

_WORDS = {"tie": "a tie", "both_bad": "both answers are bad", "skip": "skipped", "flag": "flagged"}


@router.get("")
def page(request: Request, who: Annotator, said: str = "") -> Response:
    """The answers that wait for the person's vote, else a form for a prompt."""
    return _page(request, who, said)


@router.post("/answers")
async def answers(request: Request, who: Annotator, form: SentForm) -> Response:
    """Both answers to a prompt as server-sent events, and then the address of the page to vote on.

    Events: `text` (slot, text), `ended` (slot, reason), `failed` (slot, reason), and at the end `ready` (address) once
    item, answers and lease are committed, or `again` (message) if an answer failed or too many are being written:
    then nothing is stored.
    """
    site = state(request)
    chat = _chat(site)
    site.rates.vote(who.id)
    text = text_field(form, "prompt").replace("\r\n", "\n").strip()
    if not text:
        raise UsageError("Write a prompt first.")
    if len(text) > LONGEST_PROMPT:
        raise UsageError(f"The prompt has {len(text):,} characters; at most {LONGEST_PROMPT:,} are sent.")
    after = text_field(form, "after")
    before: Messages = ()
    if after:
        before = await run_in_threadpool(site.store.read, lambda session: conversation_after(session, after, who.id))
    events = _exchange(site, chat, who, (*before, Message("user", text)), after)
    # A proxy must not wait for the end either.
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@router.post("/vote")
def vote(request: Request, who: Annotator, form: SentForm) -> Response:
    """Store a vote, as the labelling page does."""
    return _answer(request, who, cast(state(request), who, form))


@router.post("/undo")
def undo_vote(request: Request, who: Annotator, form: SentForm) -> Response:
    """Take the person's last vote on a free prompt back and show its answers again."""
    return _answer(request, who, take_back(state(request), who, CAMPAIGN, form))


async def _exchange(site: State, chat: Chat, who: Person, prompt: Messages, after: str) -> AsyncIterator[str]:
    """The events of one prompt. When the client goes, the generator is closed, and both models stop."""
    shown: Shown = secrets.choice(("left_first", "right_first"))
    found: asyncio.Queue[ChatEvent] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def on_event(event: ChatEvent) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped
            loop.call_soon_threadsafe(found.put_nowait, event)

    ends: dict[Side, Ended | Failed] = {}
    try:
        exchange = chat.ask(prompt, uuid.uuid4().hex, on_event, person=who.id)
    except UsageError as error:  # the response has begun, so it is no error page
        yield _event("again", message=str(error))
        return
    try:
        while len(ends) < 2:
            try:
                event = await asyncio.wait_for(found.get(), _KEEP_ALIVE_SECONDS)
            except TimeoutError:
                yield ": still waiting\n\n"
                continue
            slot = "first" if (event.side == 0) == (shown == "left_first") else "second"
            if isinstance(event, Piece):
                yield _event("text", slot=slot, text=event.text)
            elif event.side not in ends:
                ends[event.side] = event
                if isinstance(event, Ended):
                    yield _event("ended", slot=slot, reason=event.answer.finish_reason)
                else:
                    yield _event("failed", slot=slot, reason=event.reason)
    finally:
        exchange.cancel()
    yield await run_in_threadpool(_conclude, site, chat, who, prompt, after, shown, ends)


def _conclude(
    site: State,
    chat: Chat,
    who: Person,
    prompt: Messages,
    after: str,
    shown: Shown,
    ends: dict[Side, Ended | Failed],
) -> str:
    """Commit two complete answers; the last event."""
    first, second = ends[0], ends[1]
    if isinstance(first, Failed) or isinstance(second, Failed):
        return _event("again", message="An answer failed, so nothing was saved. Your prompt is still here; ask again.")
    row, now = exchange_row(chat, prompt, (first, second), after), site.settings.clock()
    try:
        lease = site.store.write(lambda session: record_exchange(session, who.id, who.name, row, shown=shown, now=now))
    except PalateError as error:  # the response has begun, so it is no error page
        _LOG.error("a free prompt was not stored: %s", error)
        return _event("again", message="The answers could not be saved. Your prompt is still here; ask again.")
    if lease is None:
        return _event("again", message="Both answers are the same, so there is nothing to compare. Ask something else.")
    return _event("ready", address="/ask")


def _chat(site: State) -> Chat:
    if site.chat is None:
        raise HTTPException(404, "This server was started without --models, so nobody answers a prompt.")
    return site.chat


def _event(name: str, **data: Any) -> str:
    """A server-sent event; JSON has no line breaks of its own."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _answer(request: Request, who: Person, said: str) -> Response:
    """The response to a form: for a script the next page, else the way to it."""
    if wants_page(request):
        return RedirectResponse(f"/ask{f'?said={said}' if said else ''}", 303)
    return _page(request, who, said, status=409 if said == "full" else 200)


def _page(request: Request, who: Person, said: str, status: int = 200) -> Response:
    site = state(request)
    _chat(site)
    now = site.settings.clock()

    def work(session: Session) -> Assignment | None:
        if not has_open_exchange(session, who.id, now):
            return None  # the queue would give the person another one's prompt
        return next_assignment(session, CAMPAIGN, who.id, now)

    assignment = site.store.write(work)
    last = site.store.read(lambda session: last_vote(session, who.id))
    past = site.store.read(lambda session: history(session, CAMPAIGN, who.id))
    return render(
        request,
        "ask/page.html",
        status=status,
        assignment=assignment,
        blocks=prompt_blocks(assignment.prompt) if assignment is not None else [],
        before=prompt_blocks(last.prompt) if last is not None else [],
        last=last,
        last_vote=past.last,
        longest=LONGEST_PROMPT,
        notice=NOTICES.get(said, ""),
        others=OTHERS,
        request_key=uuid.uuid4().hex,
        verdicts=VERDICTS,
        words_of=_WORDS,
    )
