"""Who can reach the pages: this machine only, or others, which needs accounts."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from palate.errors import UsageError
from palate.store import Store
from palate.web.security.accounts import can_log_in
from palate.web.settings import Settings

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def works_without_accounts(host: str, store: Store) -> bool:
    """Whether a server is started without accounts: on loopback, until somebody has one."""
    return is_loopback(host) and store.read(can_log_in) == 0


def check_exposure(settings: Settings, store: Store) -> None:
    """Refuse a server that others reach, directly or through a proxy, and that would not ask them who they are.

    Raises:
        UsageError: others reach it, and nobody has an account with a password, or `local` is set.
    """
    if not is_loopback(settings.host):
        reached = f"--host {settings.host}: other machines reach this address"
    elif settings.names:
        reached = f"--name {settings.names[0]}: others reach this server by that name"
    elif settings.https:
        reached = "--https: others reach this server through a proxy"
    else:
        return
    if store.read(can_log_in) == 0:
        raise UsageError(f"{reached}, and nobody has an account; add one with palate label users add NAME --role admin")
    if settings.local:
        raise UsageError(f"{reached}, so people must log in")


def allowed_hosts(settings: Settings) -> list[str]:
    """The names by which requests may address this server; by any other name, a foreign page has been pointed here.

    A server that listens on all addresses is reached by each of the machine's own, and by its name.
    """
    found = [*_LOOPBACK, *settings.names]
    if _is_any(settings.host):
        found += [
            _in_url(entry.address) for entries in psutil.net_if_addrs().values() for entry in entries if _ip(entry)
        ]
        found.append(socket.gethostname())
    else:
        found.append(_in_url(settings.host))
    return list(dict.fromkeys(name.lower() for name in found))


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
