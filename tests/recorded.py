"""Recorded interactions for tests: a recorder with a clock that is set by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from palate.serving.recording import Feedback, NewInteraction, RecordedChoice, Recorder
from palate.store import Store

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET = bytes(range(32))


@dataclass
class Clock:
    """A clock that stands still until it is set."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Recording:
    """A store's recorder."""

    store: Store
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.recorder = Recorder(self.store, secret=SECRET, clock=self.clock)

    def reserve(self, prompt: Any = "What is blue?", **values: Any) -> str:
        """A reserved interaction, recorded in full with consent unless `values` say else."""
        is_chat = values.get("endpoint") != "completions"
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) and is_chat else prompt
        entry = {"endpoint": "chat", "model": "v1", "policy": "full", "consent": True, "user": "ann", **values}
        identifier = self.recorder.reserve(NewInteraction(prompt=messages, **entry))
        assert identifier is not None
        return identifier

    def complete(self, *answers: str, prompt: Any = "What is blue?", **values: Any) -> str:
        """A complete interaction with these answers."""
        identifier = self.reserve(prompt, **values)
        self.recorder.update(
            identifier, "complete", [RecordedChoice(text, "stop") for text in answers or ("The sky.",)]
        )
        return identifier

    def rate(self, identifier: str, **form: Any) -> Any:
        """The row of feedback on an interaction."""
        return self.recorder.feedback(self.recorder.feedback_token(identifier), Feedback(**form))
