"""What a server of the pages is started with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from palate.network.address import Address
from palate.store.tables import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the pages are served, to whom, and what they show.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        local: no accounts: whoever reaches the page is the local person, who may do everything. Loopback only.
        campaign: the campaign that the start page leads to.
        names: more host names under which people reach the page, as that of a reverse proxy.
        https: the page is reached by HTTPS, through a reverse proxy on this machine; cookies are sent by HTTPS only.
        session_hours: after which a login expires.
        runs: folders whose runs the pages show, with the models and loops of the database; None: only labelling.
        votes_per_minute: most votes of one person in a minute.
        clock: gives the time in UTC.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    local: bool = False
    campaign: str | None = None
    names: tuple[str, ...] = ()
    https: bool = False
    session_hours: float = 12.0
    runs: tuple[Path, ...] | None = None
    votes_per_minute: int = 240
    clock: Callable[[], datetime] = utc_now

    @property
    def address(self) -> Address:
        """Where the pages are served."""
        return Address(host=self.host, port=self.port, names=self.names, https=self.https)

    @property
    def session_cookie(self) -> str:
        """Has the port in its name: all ports of a host share cookies, and two servers must not log each other out."""
        return f"{'__Host-' if self.https else ''}palate_session_{self.port}"

    @property
    def visitor_cookie(self) -> str:
        """Of a browser that nobody has logged in from; binds the CSRF token of the login form."""
        return f"{'__Host-' if self.https else ''}palate_visitor_{self.port}"
