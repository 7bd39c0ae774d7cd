"""Serves an app with uvicorn, in one process."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from palate.errors import UsageError
from palate.web.settings import Settings

_SHUTDOWN_SECONDS = 3


def serve(
    app: FastAPI,
    settings: Settings,
    on_ready: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serve an app until Ctrl-C; requests in progress have three seconds to end.

    Args:
        app: of `create_app`, with the same settings.
        on_ready: gets the address of the start page once the port is taken.
        on_stop: called at Ctrl-C, to end responses that would go on for long.

    Raises:
        UsageError: the address or port cannot be used.
    """
    with _listen(settings) as listener:
        if on_ready is not None:
            on_ready(_url(settings, listener.getsockname()[1]))
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # addresses of people; and queries have no place in a log
            server_header=False,
            ws="none",
            proxy_headers=settings.https,
            forwarded_allow_ips="127.0.0.1",
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
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


def check_port(settings: Settings) -> None:
    """Refuse an address or port that cannot be used, before long work; UsageError as in `serve`."""
    _listen(settings).close()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen()
    except OSError as error:
        listener.close()
        where = f"--port {settings.port} on {settings.host}"
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"{where} is in use; choose another one with --port, or stop what uses it") from error
        raise UsageError(f"{where} cannot be used: {error.strerror or error}; choose another one") from error
    return listener


def _url(settings: Settings, port: int) -> str:
    """The start page as somebody on this machine opens it, or as people do through the proxy."""
    if settings.https and settings.names:
        return f"https://{settings.names[0]}/"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - listens on all
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
