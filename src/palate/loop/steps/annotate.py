"""ANNOTATE and PAIRS: votes of people and of a judge on the answers, and one training set of all sources."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from palate.artifacts import iter_jsonl, read_json, read_jsonl
from palate.feedback.candidates import read_candidates
from palate.feedback.export.collection import collection_of_files, collection_of_store
from palate.feedback.export.pairs import make_pairs
from palate.feedback.export.vote_filter import Voters, filter_votes
from palate.feedback.judging import questions
from palate.feedback.queue.review import progress
from palate.loop.config import PeopleFields
from palate.loop.sources import LINEAGE_SOURCE
from palate.loop.steps.collect import held_out, keep_track, register
from palate.loop.train_config import trains_on_thumbs
from palate.loop.work import Command, Done, Inputs, Run, Waiting, Work, shown
from palate.store.tables import Campaign


def annotate(work: Work) -> Run:
    """Asks people, the judge or both, and waits for people until the quota or the deadline."""
    asked, settings, figures = work.path("candidates", "candidates.jsonl"), work.config.annotate, {}
    yield Inputs({"annotate": settings.resolved(), "options": work.config.more_options("judge")}, [asked])
    if settings.people is not None:
        yield from invite(work, work.campaign, asked, settings.people)
    if settings.judge is not None:
        votes = work.path("candidates", "votes.jsonl")

        def enough() -> bool:
            wanted = len(questions(read_candidates(asked)))
            return votes.is_file() and len(read_jsonl(votes)) >= work.gate.judged * wanted

        words = ("judge", asked, "--judge", settings.judge, "--output", votes)
        yield work.command(*words, option="judge", enough=enough)
        if not work.dry:
            figures["judge_votes"] = len(read_jsonl(votes))
            if work.config.collect.prompts is None:
                keep_track(work, asked.parent, {"rows": asked, "new": asked.with_name("new.jsonl"), "votes": votes})
    if settings.people is not None:
        figures |= yield from wait_for_people(work, work.campaign, settings.people)
    return Done(figures, [work.path("candidates", "votes.jsonl")] if settings.judge is not None else [])


def invite(work: Work, campaign: str, candidates: Path, people: PeopleFields) -> Generator[Command, None, None]:
    """The commands that let people vote on candidates in a campaign."""
    exists = select(Campaign.id).where(Campaign.name == campaign)
    if work.dry or work.store.read(lambda session: session.scalar(exists)) is None:
        words = ("label", "create", campaign, "--votes-per-item", people.votes_per_item)
        yield work.command(*words, "--seed", work.config.seed)
    yield work.command("label", "import", "--candidates", candidates, "--campaign", campaign)
    yield work.command("label", "assign", campaign)


def wait_for_people(
    work: Work, campaign: str, people: PeopleFields
) -> Generator[Waiting | Command, None, dict[str, Any]]:
    """Waits for votes until the quota, or the deadline that was set when the step began; returns the counts."""
    until = work.began + timedelta(days=people.days)
    if work.dry:
        yield Waiting(f"votes of people, at most {people.days:g} days", "people", until)
        return {}
    counts = work.store.read(lambda session: progress(session, campaign))
    needed = people.quota * counts.wanted
    if counts.votes < needed and work.now < until:
        yield Waiting(
            f"votes of people in campaign {campaign}: {counts.votes:,} of {counts.wanted:,}, {needed:,.0f} are enough",
            "people",
            until,
            f"palate label serve --campaign {campaign}",
        )
    return {"votes": counts.votes, "wanted": counts.wanted, "deadline_passed": counts.votes < needed}


def pairs(work: Work) -> Run:
    """Pairs of every source that has some, mixed with their weights."""
    folder, named = work.path("pairs"), work.config.sources
    asked, voted = work.path("candidates", "candidates.jsonl"), work.path("candidates", "votes.jsonl")
    given_votes = [work.figures.get("annotate", {}).get(name) for name in ("votes", "wanted")]
    feedback = [work.path("sample", name) for name in ("pairs.jsonl", "kto.jsonl")]
    facts = {"sources": dict(named), "people": given_votes, "seed": work.config.seed}
    yield Inputs(facts, [asked, voted, *feedback, *map(Path, work.config.imported), *held_out(work)])
    found: dict[str, Path] = {}
    voters: dict[str, tuple[Voters, tuple[object, ...]]] = {
        "people": ("people", ("--campaign", work.campaign)),
        "judge": ("judges", ("--candidates", asked, "--votes", voted)),
    }
    settings = work.config.annotate
    for name, (kind, origin) in voters.items():
        if (settings.people if name == "people" else settings.judge) is None:
            continue
        if work.dry or _decides(work, kind, asked, voted):
            found[name] = folder / "votes" / f"{name}.jsonl"
            words = ("label", "export", "--to", "palate", "--output", found[name])
            yield work.command(*words, *origin, "--voters", kind)
    if found and not work.dry:
        keep_track(work, folder / "votes", found)
    found |= _feedback(work) | {name: Path(name) for name in work.config.imported}
    given = {name: path for name, path in found.items() if name in named}
    if not given:
        reason = "no vote, edit, choice or imported set gives a pair"
        return Done({"ended": reason}, ends=("abandoned", reason))
    weights = [word for name in given for word in ("--weight", f"{name}={named[name]:g}")]
    kto = ["--kto"] if trains_on_thumbs(work.train_config) else []
    mix = ("loop", "mix", *(f"{name}={shown(path)}" for name, path in given.items()), *weights, *kto)
    excluded = [word for path in held_out(work) for word in ("--exclude", path)]
    mixed = folder / "mix"
    yield work.command(*mix, *excluded, "--seed", work.config.seed, "--output", mixed)
    if work.dry:
        return Done()
    content = read_json(mixed / "data.json")
    figures = {
        "sources": content["counts"]["comparisons"],
        "without_rows": [name for name in named if name not in given],
    }
    written = {name: mixed / entry["name"] for name, entry in content["files"].items()}
    register(work, mixed, written)
    return Done(figures, sorted(written.values()))


def _decides(work: Work, voters: Voters, asked: Path, voted: Path) -> bool:
    """Whether these voters prefer an answer to another anywhere."""
    of_people = voters == "people"
    collection = collection_of_store(work.store, work.campaign) if of_people else collection_of_files(asked, voted)
    used = filter_votes(collection.votes, voters=voters)
    return bool(make_pairs(collection.candidates, used.votes, flagged=used.flagged).pairs)


def _feedback(work: Work) -> dict[str, Path]:
    """Edits, choices and thumbs of the interactions, those that there are."""
    compared, rated = work.path("sample", "pairs.jsonl"), work.path("sample", "kto.jsonl")
    if work.config.collect.prompts is not None or not (work.dry or compared.is_file() or rated.is_file()):
        return {}
    kinds = {row["lineage"]["source"] for row in iter_jsonl(compared)} if compared.is_file() else set()
    found = {name: compared for name in ("edits", "choices") if work.dry or LINEAGE_SOURCE[name] in kinds}
    if (rated.is_file() or work.dry) and trains_on_thumbs(work.train_config):
        found["thumbs"] = rated
    return found
