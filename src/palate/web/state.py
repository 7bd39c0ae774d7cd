"""What every request of an app shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from palate.feedback.page.chat import Chat
from palate.feedback.page.save import PreferenceFile
from palate.store import Store
from palate.web.security.accounts import Person, Role
from palate.web.security.rates import Rates
from palate.web.settings import Settings


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """A page of the navigation.

    Attributes:
        title: as the navigation shows it.
        path: of the page.
        role: of the people who see the link.
        about: what the page is for, on the start page.
    """

    title: str
    path: str
    role: Role
    about: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The parts of an app.

    Attributes:
        store: the open database.
        settings: as the server was started.
        rates: counts of logins and votes.
        links: the navigation.
        chat: the two models of the free prompt; None without `--models`.
        save: file of decided pairs; None without `--save`.
        local: the person without an account, where the server has none.
    """

    store: Store
    settings: Settings
    rates: Rates
    links: tuple[NavigationLink, ...]
    local: Person | None
    chat: Chat | None = None
    save: PreferenceFile | None = None


def state(request: Request) -> State:
    """The parts of the app that serves a request."""
    return cast(State, request.app.state.palate)
