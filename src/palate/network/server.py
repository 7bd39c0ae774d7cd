"""Serves an ASGI app with uvicorn, in one process."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from palate.network.address import Address

_GRACE_SECONDS = 3


def serve(
    app: Any,
    address: Address,
    on_ready: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    *,
    grace: int = _GRACE_SECONDS,
) -> None:
    """Serve an app until Ctrl-C or SIGTERM.

    Args:
        on_ready: gets the address of the start page once the port is taken.
        on_stop: called at the signal, to end responses that would go on for long.
        grace: seconds for requests in progress to end; after them they are cancelled.

    Raises:
        UsageError: the address or port cannot be used.
    """
    with address.listen() as listener:
        if on_ready is not None:
            on_ready(address.url(listener.getsockname()[1]))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses of people; and queries have no place in a log
            server_header=False,
            ws="none",
            proxy_headers=address.https,
            forwarded_allow_ips="127.0.0.1",
            timeout_graceful_shutdown=grace,
        )
        try:
            _Server(config, on_stop).run(sockets=[listener])
        except KeyboardInterrupt:
            return  # uvicorn has shut down, and then raises the signal again


class _Server(uvicorn.Server):
    """A server that says when it is asked to stop, before it waits for the responses in progress."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._on_stop is not None:
            self._on_stop()
        super().handle_exit(sig, frame)
