"""Versions of models: aliases, canaries, verdicts and decisions, and the votes that they learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Path, Query
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from palate.charts.text import shortened
from palate.errors import ArtifactError
from palate.registry import Version, moves, versions, with_bases
from palate.registry.canary import canaries, canary_moves, canary_of, set_canary
from palate.registry.lineage import Voter, interaction_ids, vote_ids, voters, votes_of
from palate.registry.verdicts import decide, verdicts
from palate.store.serving_tables import Interaction
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
    running, judged = store.read(lambda session: (canaries(session), verdicts(session)))
    last = {verdict.candidate: verdict for verdict in judged}
    found = versions(store)[::-1]
    return render(request, "models/list.html", who=who, versions=found, canaries=running, verdicts=last)


@router.get("/find")
def find_token(request: Request, who: Reviewer, id: Annotated[str, Query(max_length=200)] = "") -> Response:
    """From a served answer to the version that wrote it, or from a vote to the versions that learnt from it."""
    del who
    store, id = state(request).store, id.strip()
    known = versions(store)
    if (answer := store.read(lambda session: session.get(Interaction, id))) is not None:
        version = next((one for one in known if one.name == answer.model), None)
        learnt = [] if version is None else _learnt(request, known, version)
        return render(request, "models/answer.html", answer=answer, version=version, learnt=learnt)
    learners = [version for version in known if _learnt_from(version, id)]
    if not learners:
        raise HTTPException(404, f"{shortened(id, 100)}: no recorded answer, and no vote that a version learnt from.")
    vote = store.read(lambda session: votes_of(session, [id])).get(id)
    return render(request, "models/vote.html", id=id, vote=vote, versions=learners)


@router.get("/{name}")
def show_model(request: Request, who: Reviewer, name: str) -> Response:
    """A version with its lineage down to the votes, its verdicts, and every move of an alias to or from it."""
    store = state(request).store
    known = versions(store)
    version = _version(known, name)
    run = next((one for one in found_runs(request).of("run") if str(one.path) == version.lineage["source"]), None)
    judged, shares = store.read(lambda session: (verdicts(session, version.name), canary_moves(session, version.name)))
    return render(
        request,
        "models/version.html",
        who=who,
        version=version,
        run=run,
        children=[one.name for one in known if one.base == version.name],
        learnt=_learnt(request, known, version),
        verdicts=judged[::-1],
        shares=shares[::-1],
        moves=moves(store, version.name)[::-1],
    )


@router.get("/{name}/votes")
def show_votes(request: Request, who: Reviewer, name: str, page: PageNumber = 1) -> Response:
    """The votes that a version learnt from, one by one."""
    del who
    store = state(request).store
    version = _version(versions(store), name)
    ids = vote_ids(version.folder)
    shown = ids[(page - 1) * PAGE : page * PAGE]
    found = store.read(lambda session: votes_of(session, shown))
    return render(
        request,
        "models/votes.html",
        version=version,
        votes=[(id, found.get(id)) for id in shown],
        count=len(ids),
        page=page,
        pages=max(1, -(-len(ids) // PAGE)),
    )


@router.post("/{name}/verdicts/{verdict}")
def decide_verdict(
    request: Request,
    who: Admin,
    name: str,
    verdict: Annotated[int, Path(lt=2**31)],
    action: Annotated[Literal["sign", "reject"], Form()],
    reason: Reason = "",
) -> Response:
    store = state(request).store
    if verdict not in [one.id for one in store.read(lambda session: verdicts(session, name))]:
        raise HTTPException(404, f"There is no such verdict on {shortened(name, 100)}.")
    decide(store, verdict, action, who=who.name, reason=reason)
    return RedirectResponse(f"/models/{quote(name, safe='')}", 303)


@router.post("/{name}/canary/end")
def end_canary(
    request: Request, who: Admin, name: str, alias: Annotated[str, Form(max_length=100)], reason: Reason = ""
) -> Response:
    """End the canary of an alias: everybody gets the alias's own version again."""
    store = state(request).store
    running = store.read(lambda session: canary_of(session, alias))
    if running is None or running.version != name:
        raise HTTPException(404, f"{shortened(name, 100)} is no canary of {shortened(alias, 100)}.")
    set_canary(store, running.version, 0.0, alias=alias, who=who.name, reason=reason)
    return RedirectResponse("/models", 303)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a version learnt from.

    Attributes:
        version: its name.
        votes: number of its votes, and of them `here`, in this store.
        voters: who cast these.
        interactions: number of interactions whose feedback it was trained on.
        problem: why its data.json, which names them, cannot be read; empty if it can.
    """

    version: str
    votes: int = 0
    here: int = 0
    voters: Sequence[Voter] = ()
    interactions: int = 0
    problem: str = ""


def _learnt(request: Request, known: Sequence[Version], version: Version) -> list[Learnt]:
    """What a version and those that it was trained from learnt from, the version first."""
    found = []
    for one in with_bases(version, known):
        try:
            ids, interactions = vote_ids(one.folder), interaction_ids(one.folder)
            cast = state(request).store.read(partial(voters, ids=ids))
            found.append(Learnt(one.name, len(ids), sum(voter.votes for voter in cast), cast, len(interactions)))
        except ArtifactError as error:
            found.append(Learnt(one.name, problem=str(error).replace(f"{one.folder}/", "")))
    return found


def _learnt_from(version: Version, vote: str) -> bool:
    try:
        return vote in vote_ids(version.folder)
    except ArtifactError:  # the version's own page says so
        return False


def _version(known: Sequence[Version], name: str) -> Version:
    """The version of a name or alias.

    Raises:
        HTTPException: 404, there is none.
    """
    version = next((one for one in known if name == one.name or name in one.aliases), None)
    if version is None:
        raise HTTPException(404, f"There is no version {shortened(name, 100)}.")
    return version
