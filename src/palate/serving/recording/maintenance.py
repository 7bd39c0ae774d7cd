"""What the gateway does at its start and each hour: ends of dead processes' rows, and retention."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import anyio
import anyio.to_thread

from palate.errors import StoreError
from palate.serving.recording.erasure import purge
from palate.serving.recording.recorder import Recorder
from palate.store.tables import utc_now

EVERY_SECONDS = 3600.0


def maintain(recorder: Recorder, now: datetime) -> list[str]:
    """Do it once; returns a line for each thing that changed.

    Raises:
        StoreError: the database cannot be read or written.
    """
    lines = []
    if given_up := recorder.give_up():
        lines.append(f"{given_up:,} interactions are partial: their process ended before they did")
    if purged := purge(recorder.store, now):
        lines.append(f"{purged:,} interactions deleted: they are older than their key's retention")
    return lines


async def keep_maintained(
    recorder: Recorder, say: Callable[[str], None], *, clock: Callable[[], datetime] = utc_now
) -> None:
    """Do it now and each hour, until the task is cancelled; a database that fails is tried again the next time."""
    while True:
        try:
            lines = await anyio.to_thread.run_sync(maintain, recorder, clock())
        except StoreError as error:
            lines = [f"recorded interactions were not maintained: {error}"]
        for line in lines:
            say(line)
        await anyio.sleep(EVERY_SECONDS)
