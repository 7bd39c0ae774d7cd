"""`palate web`: all pages for people, and how `palate label serve` starts the same server."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

from typer import Option

from palate.charts.text import amount
from palate.cli.arguments import StoreUrl, check_installed, opened_store
from palate.cli.console import print_note, print_result
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.feedback.page.chat import Chat
    from palate.feedback.page.save import PreferenceFile
    from palate.store import Store
    from palate.web.settings import Settings

_RUNS = Path("runs")

RunFolders = Annotated[
    list[Path] | None,
    Option("--runs", metavar="FOLDER", help="Folder of runs to show; may be given again. Default: runs."),
]
Host: TypeAlias = Annotated[
    str, Option("--host", help="Address to listen on. Beyond this machine people need accounts.")
]
Port: TypeAlias = Annotated[int, Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
HostNames: TypeAlias = Annotated[
    list[str] | None,
    Option("--name", metavar="HOST", help="Name under which people reach the page through a proxy; repeatable."),
]
Https: TypeAlias = Annotated[bool, Option("--https", help="A proxy on this machine serves HTTPS; cookies need it.")]
Open: TypeAlias = Annotated[bool, Option("--open/--no-open", help="Open the page in a browser, if there is a screen.")]


def command(
    runs: RunFolders = None,
    store: StoreUrl = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    names: HostNames = None,
    https: Https = False,
    open_page: Open = True,
) -> None:
    """Serve all pages until Ctrl-C: label, runs, compare, models and loop.

    Example: palate web --runs runs --runs cycles
    """
    for folder in runs or ():
        if not folder.is_dir():
            raise UsageError(f"--runs {folder}: there is no such folder; name one that has runs below it")
    check_installed("label")
    with opened_store(store, create=True) as opened:
        settings = page_settings(opened, host, port, names, https, tuple(runs or (_RUNS,)))
        serve_pages(opened, settings, open_page=open_page)


def page_settings(
    store: Store, host: str, port: int, names: list[str] | None, https: bool, runs: tuple[Path, ...] | None = None
) -> Settings:
    """The settings of the server that the options name, once it is known that it may and can listen there.

    Raises:
        UsageError: it would show the pages to others without asking who they are, or cannot have the port.
    """
    from palate.web.security.exposure import check_exposure, works_without_accounts
    from palate.web.settings import Settings

    local = works_without_accounts(host, store)
    settings = Settings(host=host, port=port, local=local, names=tuple(names or ()), https=https, runs=runs)
    check_exposure(settings, store)
    settings.address.listen().close()  # before long work
    return settings


def serve_pages(
    store: Store, settings: Settings, chat: Chat | None = None, file: PreferenceFile | None = None, *, open_page: bool
) -> None:
    """Serve the pages until Ctrl-C; `file` gets the decided pairs that it lacks first."""
    from palate.feedback.page.decided import restore_pairs
    from palate.network.server import serve
    from palate.web.app import create_app

    if file is not None and (restored := restore_pairs(store, file)):
        print_note(f"{file.path}: added {amount(restored, 'decided pair')} of a server that was killed")

    def on_ready(url: str) -> None:
        print_result(f"{url}\nstore {store.url}; Ctrl-C stops the server, and the next start goes on from here")
        sys.stdout.flush()
        if open_page and _has_screen():
            webbrowser.open(url)

    def on_stop() -> None:
        if chat is not None:
            chat.cancel("the server was stopped")

    serve(create_app(store, settings, chat=chat, save=file), settings.address, on_ready, on_stop)


def _has_screen() -> bool:
    """Whether a browser can show a window: not over SSH, in a container or in a pipe."""
    if not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
