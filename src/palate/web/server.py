"""Serves the pages with uvicorn, in one process."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from palate.network import server
from palate.web.settings import Settings


def serve(
    app: FastAPI,
    settings: Settings,
    on_ready: Callable[[str], None] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> None:
    """Serve an app of `create_app`, with the same settings, until Ctrl-C; see `network.server.serve`.

    Raises:
        UsageError: the address or port cannot be used.
    """
    server.serve(app, settings.address, on_ready, on_stop)


def check_port(settings: Settings) -> None:
    """Refuse an address or port that cannot be used, before long work; UsageError as in `serve`."""
    settings.address.listen().close()
