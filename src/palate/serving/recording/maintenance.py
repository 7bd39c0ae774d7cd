"""What the gateway does at its start and from time to time: ends of dead processes' rows, and retention."""

from __future__ import annotations

from datetime import datetime

from palate.serving.recording.erasure import purge
from palate.serving.recording.recorder import Recorder


def maintain(recorder: Recorder, now: datetime) -> list[str]:
    """Do both; returns a line for each that changed something.

    Raises:
        StoreError: the database cannot be read or written.
    """
    lines = []
    if given_up := recorder.give_up():
        lines.append(f"{given_up:,} interactions are partial: their process ended before they did")
    if purged := purge(recorder.store, now):
        lines.append(f"{purged:,} interactions deleted: they are older than their key's retention")
    return lines
