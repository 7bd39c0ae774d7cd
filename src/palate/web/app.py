"""The app of the pages: routers, middleware, and a role for every route."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from palate.feedback.page.chat import Chat
from palate.feedback.page.save import PreferenceFile
from palate.network import roles
from palate.store import Store
from palate.web import account, home, login, loops, static_files
from palate.web.label import admin, free, review
from palate.web.label import item as label
from palate.web.models import routes as models
from palate.web.problems import handle_errors
from palate.web.security import accounts, passwords
from palate.web.security.csrf import CsrfGuard
from palate.web.security.exposure import check_exposure
from palate.web.security.headers import SecurityHeaders
from palate.web.security.people import ACCESS
from palate.web.security.rates import Rates
from palate.web.settings import Settings
from palate.web.state import NavigationLink, State
from palate.web.trainings import compare
from palate.web.trainings import routes as runs

__all__ = ["Settings", "create_app", "route_roles"]

route_roles = partial(roles.route_roles, order=ACCESS)
"""The role that each route of the pages asks for."""

ROUTERS: tuple[APIRouter, ...] = (
    static_files.router,
    login.router,
    account.router,
    home.router,
    label.router,
    review.router,
    admin.router,
    free.router,
)

ALL_PAGES: tuple[APIRouter, ...] = (runs.router, compare.router, models.router, loops.router)
"""What `palate web` serves besides."""

LINKS: tuple[NavigationLink, ...] = (
    NavigationLink("Label", "/label", "annotator", "Compare two answers to a prompt."),
)
"""The navigation, in order."""

ALL_LINKS: tuple[NavigationLink, ...] = (
    NavigationLink(
        "Runs", "/runs", "reviewer", "Training runs, pipelines and sweeps: curves, health, held-out accuracy."
    ),
    NavigationLink("Compare", "/compare", "reviewer", "Two to six runs side by side."),
    NavigationLink(
        "Models", "/models", "reviewer", "Versions, aliases, verdicts, and the votes that each version learnt from."
    ),
    NavigationLink("Loop", "/loop", "reviewer", "Where each cycle is, what it waits for, and what to do next."),
)

ASK = NavigationLink("Ask both models", "/ask", "annotator", "Write a prompt and compare the answers of two models.")
"""In the navigation of a server with models."""

LARGEST_REQUEST = 1_000_000
"""Bytes."""


def create_app(
    store: Store, settings: Settings, *, chat: Chat | None = None, save: PreferenceFile | None = None
) -> FastAPI:
    """The pages of a database.

    Args:
        store: the open database.
        settings: as the server was started.
        chat: the two models of the free prompt, loaded; without it there is no free prompt.
        save: file that decided pairs are appended to.

    Raises:
        UsageError: the settings would show the pages to other machines without asking who somebody is.
    """
    check_exposure(settings, store)
    app = FastAPI(
        title="palate",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=settings.address.hosts(), www_redirect=False),
            Middleware(RequestBodyLimitMiddleware, max_body_size=LARGEST_REQUEST),
            Middleware(CsrfGuard, settings=settings),
        ],
    )
    local = None
    if settings.local:
        now = settings.clock()
        local = store.write(lambda session: accounts.local_person(session, now))
    else:
        passwords.hash_of_nobody()
    app.state.palate = State(
        store=store,
        settings=settings,
        rates=Rates(settings.votes_per_minute),
        links=(*LINKS, *(() if chat is None else (ASK,)), *(() if settings.runs is None else ALL_LINKS)),
        chat=chat,
        save=save,
        local=local,
    )
    handle_errors(app)
    for router in (*ROUTERS, *(() if settings.runs is None else ALL_PAGES)):
        app.include_router(router)
    route_roles(app)
    return app
