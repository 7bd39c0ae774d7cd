"""The address of a server of ours: who reaches it, by which names, and its socket."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass

import psutil

from palate.errors import UsageError

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_BACKLOG = 2048
"""Connections that wait to be accepted: a thousand clients may come at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens.

    Attributes:
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        names: more host names under which people reach it, as that of a reverse proxy.
        https: it is reached by HTTPS, through a reverse proxy on this machine.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    https: bool = False

    @property
    def reached(self) -> str | None:
        """How others reach the server, as the start of a message; None if only this machine does."""
        if not is_loopback(self.host):
            return f"--host {self.host}: other machines reach this address"
        if self.names:
            return f"--name {self.names[0]}: others reach this server by that name"
        return "--https: others reach this server through a proxy" if self.https else None

    def hosts(self) -> list[str]:
        """The names by which requests may address it; by any other name, a foreign page has been pointed here.

        A server that listens on all addresses is reached by each of the machine's own, and by its name.
        """
        found = [*_LOOPBACK, *self.names]
        if _is_any(self.host):
            found += [
                _in_url(entry.address) for entries in psutil.net_if_addrs().values() for entry in entries if _ip(entry)
            ]
            found.append(socket.gethostname())
        else:
            found.append(_in_url(self.host))
        return list(dict.fromkeys(name.lower() for name in found))

    def url(self, port: int) -> str:
        """The start page as somebody on this machine opens it, or as people do through the proxy."""
        if self.https and self.names:
            return f"https://{self.names[0]}/"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - listens on all
        return f"http://{_in_url(host)}:{port}/"

    def listen(self) -> socket.socket:
        """A socket that listens; raises UsageError if the address or port cannot be used."""
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        # With its protocol named, asyncio sends small pieces at once; else each waits 40 ms for an acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            where = f"--port {self.port} on {self.host}"
            if error.errno == errno.EADDRINUSE:
                raise UsageError(f"{where} is in use; choose another one with --port, or stop what uses it") from error
            raise UsageError(f"{where} cannot be used: {error.strerror or error}; choose another one") from error
        return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _ip(entry: object) -> bool:
    return getattr(entry, "family", None) in (socket.AF_INET, socket.AF_INET6)


def _in_url(host: str) -> str:
    """An IPv6 address in brackets and without its zone."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host
