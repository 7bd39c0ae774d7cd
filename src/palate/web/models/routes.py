"""Versions of models: aliases, canaries, verdicts and decisions, and the votes that they learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query
from sqlalchemy.orm import Session
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from palate.charts.text import shortened
from palate.registry import Version, moves, versions
from palate.registry.canary import canary_of, set_canary
from palate.registry.lineage import vote_ids
from palate.registry.verdicts import decide, verdicts
from palate.registry.votes import learnt_from, learnt_votes, version_of_answer, voters
from palate.web.pages import render
from palate.web.security.people import Admin, Reviewer
from palate.web.state import state
from palate.web.trainings.routes import PAGE, PageNumber, found_runs

router = APIRouter(prefix="/models")

Reason = Annotated[str, Form(max_length=10_000)]


@router.get("")
def list_models(request: Request, who: Reviewer) -> Response:
    """All versions, the newest first."""
    store = state(request).store
    found = versions(store)
    aliases = sorted({alias for version in found for alias in version.aliases})

    def read(session: Session) -> tuple[Any, Any]:
        last = {verdict.candidate: verdict for verdict in verdicts(session)}
        return [(alias, one) for alias in aliases if (one := canary_of(session, alias)) is not None], last

    canaries, last = store.read(read)
    return render(
        request, "models/list.html", who=who, versions=found[::-1], aliases=aliases, canaries=canaries, verdicts=last
    )


@router.get("/find")
def find_token(request: Request, who: Reviewer, id: Annotated[str, Query(max_length=200)] = "") -> Response:
    """From a served answer to the version that wrote it, or from a vote to the versions that learnt from it."""
    del who
    store, id = state(request).store, id.strip()
    known = versions(store)
    answer = store.read(lambda session: version_of_answer(session, known, id))
    learnt = learnt_from(known, id) if answer is None else []
    if answer is None and not learnt:
        raise HTTPException(
            404, f"There is no recorded answer {shortened(id, 100)}, and no version learnt from such a vote."
        )
    if answer is None:
        (vote,) = store.read(lambda session: learnt_votes(session, [id]))
        return render(request, "models/found.html", vote=vote, answer=None, version=None, votes=None, versions=learnt)
    row, version = answer
    votes = None if version is None else _votes(request, version)
    return render(request, "models/found.html", vote=None, answer=row, version=version, votes=votes, versions=[])


@router.get("/{name}")
def show_model(request: Request, who: Reviewer, name: str) -> Response:
    """A version with its lineage down to the votes, its verdicts, and every move of an alias to or from it."""
    store = state(request).store
    version = _version(request, name)
    run = next((one for one in found_runs(request).of("run") if str(one.path) == version.lineage["source"]), None)
    return render(
        request,
        "models/version.html",
        who=who,
        version=version,
        run=run,
        children=[one.name for one in versions(store) if one.base == version.name],
        votes=_votes(request, version),
        verdicts=store.read(lambda session: verdicts(session, version.name))[::-1],
        moves=moves(store, version.name)[::-1],
    )


@router.get("/{name}/votes")
def show_votes(request: Request, who: Reviewer, name: str, page: PageNumber = 1) -> Response:
    """The votes that a version learnt from, one by one."""
    del who
    version = _version(request, name)
    ids = vote_ids(version.folder)
    shown = ids[(page - 1) * PAGE : page * PAGE]
    found = state(request).store.read(lambda session: learnt_votes(session, shown))
    pages = max(1, -(-len(ids) // PAGE))
    return render(request, "models/votes.html", version=version, votes=found, count=len(ids), page=page, pages=pages)


@router.post("/{name}/verdicts/{verdict}")
def decide_verdict(
    request: Request,
    who: Admin,
    name: str,
    verdict: Annotated[int, Path(lt=2**31)],
    action: Annotated[Literal["sign", "reject"], Form()],
    reason: Reason = "",
) -> Response:
    """Sign or reject a verdict on a version."""
    store, version = state(request).store, _version(request, name)
    if verdict not in [one.id for one in store.read(lambda session: verdicts(session, version.name))]:
        raise HTTPException(404, f"There is no such verdict on {version.name}.")
    decide(store, verdict, action, who=who.name, reason=reason)
    return RedirectResponse(f"/models/{quote(version.name, safe='')}", 303)


@router.post("/{name}/canary/end")
def end_canary(
    request: Request, who: Admin, name: str, alias: Annotated[str, Form(max_length=100)], reason: Reason = ""
) -> Response:
    """End the canary of an alias: everybody gets the alias's own version again."""
    store, version = state(request).store, _version(request, name)
    running = store.read(lambda session: canary_of(session, alias))
    if running is None or running.version != version.name:
        raise HTTPException(404, f"{version.name} is no canary of {shortened(alias, 100)}.")
    set_canary(store, version.name, 0.0, alias=alias, who=who.name, reason=reason)
    return RedirectResponse("/models", 303)


@dataclass(frozen=True, slots=True)
class Votes:
    """What a version learnt from.

    Attributes:
        count: number of its votes.
        here: of them, in this store.
        voters: who cast these.
    """

    count: int
    here: int
    voters: list[Any]


def _votes(request: Request, version: Version) -> Votes:
    ids = vote_ids(version.folder)
    found = state(request).store.read(lambda session: voters(session, ids))
    return Votes(len(ids), sum(one.votes for one in found), found)


def _version(request: Request, name: str) -> Version:
    """The version of a name or alias.

    Raises:
        HTTPException: 404, there is none.
    """
    found = versions(state(request).store)
    version = next((one for one in found if name == one.name or name in one.aliases), None)
    if version is None:
        raise HTTPException(404, f"There is no version {shortened(name, 100)}.")
    return version
