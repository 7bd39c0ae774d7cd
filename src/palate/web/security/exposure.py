"""Who can reach the pages: this machine only, or others, which needs accounts."""

from __future__ import annotations

from palate.errors import UsageError
from palate.network.address import is_loopback
from palate.store import Store
from palate.web.security.accounts import can_log_in
from palate.web.settings import Settings


def works_without_accounts(host: str, store: Store) -> bool:
    """Whether a server is started without accounts: on loopback, until somebody has one."""
    return is_loopback(host) and store.read(can_log_in) == 0


def check_exposure(settings: Settings, store: Store) -> None:
    """Refuse a server that others reach, directly or through a proxy, and that would not ask them who they are.

    Raises:
        UsageError: others reach it, and nobody has an account with a password, or `local` is set.
    """
    reached = settings.address.reached
    if reached is None:
        return
    if store.read(can_log_in) == 0:
        raise UsageError(f"{reached}, and nobody has an account; add one with palate label users add NAME --role admin")
    if settings.local:
        raise UsageError(f"{reached}, so people must log in")
