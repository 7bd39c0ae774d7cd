"""Writes interactions: reserved before the first byte, their end when it is known, by checked changes of state.

    reserved → streaming → complete | cancelled | refused | unreachable | upstream_error | partial

`partial` is an answer that was cut off: its writer failed or died. Only answers of a `complete` interaction are
learnt from.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import Table, bindparam, delete, insert, select, update
from sqlalchemy.orm import Session

from palate.artifacts import plain
from palate.errors import StoreError
from palate.serving.recording.entries import OPEN, Endpoint, NewInteraction, Policy, RecordedChoice, State, Usage
from palate.serving.recording.feedback import Feedback, FeedbackError, add_feedback
from palate.serving.recording.privacy import kept_json, kept_settings, kept_text
from palate.serving.recording.process import is_dead, process_name
from palate.store import Store
from palate.store.serving_tables import FeedbackRow, Interaction, InteractionAnswer, Secret
from palate.store.tables import utc_now

ABANDONED_AFTER = timedelta(hours=6)
"""An interaction whose row was not written for so long has no writer any more, wherever that ran."""
TOKEN_LIFETIME = timedelta(days=30)
"""How long feedback on a completion is accepted."""
_PREFIXES: Mapping[Endpoint, str] = {"chat": "chatcmpl-", "completions": "cmpl-", "responses": "resp_"}
_LONGEST_ERROR = 1000
_BATCH = 500
_ENDS: tuple[State, ...] = ("complete", "cancelled", "refused", "unreachable", "upstream_error", "partial")
_NEXT: Mapping[str, tuple[State, ...]] = {"reserved": ("streaming", *_ENDS), "streaming": _ENDS}


# Statements of tables and not of mapped classes, made once: a request waits for them.
_ROWS, _ANSWERS = cast(Table, Interaction.__table__), cast(Table, InteractionAnswer.__table__)
_INSERT, _INSERT_ANSWERS = insert(_ROWS), insert(_ANSWERS)
_STATE = (
    select(_ROWS.c.state, _ROWS.c.finished, _ROWS.c.writer, _ROWS.c.policy)
    .where(_ROWS.c.id == bindparam("of"))
    .with_for_update()
)
_UPDATE = update(_ROWS).where(_ROWS.c.id == bindparam("of"))
_DELETE_ANSWERS = delete(_ANSWERS).where(_ANSWERS.c.interaction_id == bindparam("of"))


class StateError(StoreError):
    """An interaction cannot change from its state to the wanted one."""


def shared_secret(store: Store) -> bytes:
    """The store's secret for tokens and hashes of people's ids, made when it is first needed."""

    def work(session: Session) -> bytes:
        row = session.get(Secret, "recording")
        if row is None:
            row = Secret(name="recording", value=secrets.token_hex(32))
            session.add(row)
        return bytes.fromhex(row.value)

    return store.write(work)


class Recorder:
    """Records interactions and feedback. Every method is one transaction, committed when it returns.

    Args:
        store: where they are written.
        secret: `shared_secret(store)`, so that each process that serves the store accepts the tokens of the others.
        clock: gives the time in UTC.

    Raises (every method):
        StoreError: the database stays locked, is full or cannot be reached; nothing was written.
    """

    def __init__(self, store: Store, *, secret: bytes, clock: Callable[[], datetime] = utc_now) -> None:
        self.store = store
        self._secret = secret
        self._clock = clock
        self._writer = process_name()

    def reserve(self, entry: NewInteraction) -> str | None:
        """Write a request before its first byte is answered; returns the id of the interaction and its completion.

        None if nothing may be recorded (policy `none`, or `store: false`); there is no feedback then.
        """
        if entry.policy == "none" or not entry.store:
            return None
        now = self._clock()
        identifier = f"{_PREFIXES[entry.endpoint]}{uuid.uuid4().hex}"
        tools = kept_json(entry.tools, entry.policy)
        values = {
            "id": identifier,
            "key_id": entry.key_id,
            "user": self.user_hash(entry.user, entry.key_id),
            "endpoint": entry.endpoint,
            "state": "reserved",
            "policy": entry.policy,
            "consent": entry.consent,
            "model": entry.model,
            "identity": entry.identity,
            "template": entry.template,
            "decoding": plain(kept_settings(entry.decoding, entry.policy)),
            "route": entry.route,
            "probability": entry.probability,
            "prompt": plain(kept_json(entry.prompt, entry.policy)),
            "tools": None if tools is None else json.dumps(plain(tools), ensure_ascii=False),
            "writer": self._writer,
            "created": now,
            "touched": now,
        }
        self.store.write(lambda session: session.execute(_INSERT, values))
        return identifier

    def update(
        self,
        id: str,
        state: State,
        answers: Sequence[RecordedChoice] = (),
        *,
        usage: Usage | None = None,
        error: str | None = None,
    ) -> None:
        """Write the next state of an interaction with the answers so far; one that was deleted meanwhile stays so.

        The caller shields this from the client's leaving. Writing the same end twice changes nothing.

        Raises:
            StateError: the interaction has another end already.
        """
        now = self._clock()

        def work(session: Session) -> None:
            row = session.execute(_STATE, {"of": id}).one_or_none()
            if row is None or (row.state == state and row.finished is not None):
                return
            # Another process may have given the row up although this one was only slow.
            given_up = row.state == "partial" and row.finished is None and row.writer == self._writer
            if state not in _NEXT.get("streaming" if given_up else row.state, ()):
                raise StateError(f"interaction {id}: is {row.state}, so it cannot become {state}")
            values: dict[str, Any] = {
                "of": id,
                "state": state,
                "touched": now,
                "finished": None if state in OPEN else now,
                "error": kept_text(error[:_LONGEST_ERROR], row.policy, ended=False) if error else None,
            }
            if usage is not None:
                values |= {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
            session.execute(_UPDATE, values)
            if row.state != "reserved":
                session.execute(_DELETE_ANSWERS, {"of": id})
            if answers:
                session.execute(_INSERT_ANSWERS, [_answer(id, *answer, row.policy) for answer in enumerate(answers)])

        self.store.write(work)

    def give_up(self) -> int:
        """Mark the interactions whose process has died as `partial`; returns their number.

        Called at the start and from time to time: a process on another host counts as dead after `ABANDONED_AFTER`.
        """
        oldest = self._clock() - ABANDONED_AFTER
        is_open = Interaction.state.in_(OPEN)
        wanted = select(Interaction.id, Interaction.writer, Interaction.touched).where(is_open)
        rows = self.store.read(lambda session: session.execute(wanted).all())
        dead = {writer for writer in {row.writer for row in rows} if is_dead(writer)}
        ids = [row.id for row in rows if row.writer in dead or row.touched < oldest]

        def work(session: Session) -> int:
            changed = 0
            for start in range(0, len(ids), _BATCH):
                some = update(Interaction).where(Interaction.id.in_(ids[start : start + _BATCH]), is_open)
                changed += len(session.execute(some.values(state="partial").returning(Interaction.id)).all())
            return changed

        return self.store.write(work) if ids else 0

    def user_hash(self, user: str | None, key_id: int | None) -> str:
        """What the store has in place of a person's id; of a client that names nobody, a hash for its key.

        Without the store's secret nobody can guess the id from it.
        """
        return self._sign("user", f"user:{user}" if user else f"key:{key_id or ''}")

    def feedback_token(self, id: str) -> str:
        """The token that allows feedback on one interaction: its id, when the token expires, and their signature."""
        content = f"{id}.{int((self._clock() + TOKEN_LIFETIME).timestamp())}"
        return f"{content}.{self._sign('feedback', content)}"

    def _read_token(self, token: str, now: datetime) -> str | None:
        """The interaction that a token is for; None if it was not signed here, or its time is over."""
        content, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign("feedback", content).encode()):
            return None
        interaction, _, end = content.rpartition(".")
        return interaction if now.timestamp() < int(end) else None

    def _sign(self, purpose: str, content: str) -> str:
        message = f"palate {purpose}\0{content}".encode("utf-8", "replace")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()

    def feedback(self, token: str, form: Feedback) -> FeedbackRow:
        """Store feedback; the same form again gives the same row, a changed one supersedes it.

        Raises:
            FeedbackError: the token was not given by this store, is expired or for another completion; the
                interaction was deleted; or the form does not fit it.
        """
        now = self._clock()
        identifier = self._read_token(token, now)
        if identifier is None or form.id not in (None, identifier):
            raise FeedbackError(
                "the feedback token is wrong, expired, or of another completion; send the one that came with this one",
                status=403,
            )
        return self.store.write(lambda session: add_feedback(session, identifier, form, now))


def _answer(interaction: str, number: int, answer: RecordedChoice, policy: Policy) -> dict[str, Any]:
    ended = answer.finish_reason not in (None, "length")
    return {
        "interaction_id": interaction,
        "number": number,
        "text": kept_text(answer.text, policy, ended=ended),
        "tool_calls": plain(kept_json(answer.tool_calls, policy)),
        "finish_reason": answer.finish_reason,
        "tokens": answer.tokens,
    }
