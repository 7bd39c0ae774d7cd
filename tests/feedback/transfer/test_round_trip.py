"""Candidates and votes go through files and stores unchanged."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.artifacts import JsonlWriter
from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign
from palate.feedback.candidates import AnswerOrigin, Candidates, read_candidates
from palate.feedback.transfer import Imported, candidates_in, import_candidates, import_votes, votes_in
from palate.feedback.votes import Vote, read_votes, time_text
from palate.records import Answer, Message, ToolCall
from palate.store import Store

NUMBERS = count()

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
names = texts.filter(str.strip)
finite = st.floats(allow_nan=False, allow_infinity=False)
measured = finite.map(lambda value: value + 0.0)  # SQLite writes −0 as 0
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
columns = st.dictionaries(texts, json_values, max_size=3)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    role = draw(st.sampled_from(["system", "user", "assistant", "tool"]))
    content = draw(texts)
    if role == "tool":
        return Message("tool", content, tool_call_id=draw(st.none() | names))
    if role != "assistant":
        return Message(role, content, name=draw(st.none() | names))
    arguments = st.dictionaries(texts, json_values, max_size=2) | texts
    calls = st.builds(
        ToolCall,
        names,
        arguments.map(lambda value: json.dumps(value, ensure_ascii=False)),
        st.none() | names,
    )
    return Message(
        "assistant",
        content,
        tuple(draw(st.lists(calls, max_size=2))),
        draw(st.none() | names),
        draw(st.none() | names),
        trained=draw(st.booleans()),
    )


answers = st.builds(Answer, texts, texts.filter(bool), st.none() | st.integers(0, 2**31 - 1))
origins = st.builds(
    AnswerOrigin,
    texts,
    st.none() | texts.filter(bool),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    columns,
)


@st.composite
def candidates(draw: st.DrawFn, identifier: str) -> Candidates:
    completions = draw(st.lists(answers, min_size=1, max_size=3))
    row = Candidates(
        identifier,
        tuple(draw(st.lists(messages(), min_size=1, max_size=3))),
        tuple(completions),
        columns=draw(columns),
        tools=draw(st.none() | st.lists(columns, min_size=1, max_size=2).map(json.dumps)),
    )
    shared = draw(st.booleans())
    own = [draw(origins)] * len(completions) if shared else [draw(origins) for _ in completions]
    return row.with_origins(own)


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[Candidates], list[Vote]]:
    """Rows with different ids, and votes on them, some of which supersede an earlier one."""
    identifiers = draw(st.lists(texts.filter(bool), min_size=1, max_size=3, unique=True))
    rows = [draw(candidates(identifier)) for identifier in identifiers]
    several = [row for row in rows if len(row.completions) > 1]
    votes: list[Vote] = []
    replaced: set[str] = set()
    for _ in range(draw(st.integers(0, 5)) if several else 0):
        row = draw(st.sampled_from(several))
        left, right = sorted(draw(st.sets(st.integers(0, len(row.completions) - 1), min_size=2, max_size=2)))
        earlier = [
            vote.id
            for vote in votes
            if vote.id and vote.id not in replaced and (vote.item, vote.left, vote.right) == (row.id, left, right)
        ]
        supersedes = draw(st.sampled_from(["", *earlier]))
        replaced.add(supersedes)
        votes.append(
            Vote(
                item=row.id,
                left=left,
                right=right,
                outcome=draw(st.sampled_from(["left", "right", "tie", "both_bad", "unparsed", "skip", "flag"])),
                who=draw(texts),
                when=time_text(draw(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))),
                shown=draw(st.sampled_from(["left_first", "right_first"])),
                reason=draw(texts),
                probability_left=draw(st.none() | measured),
                kind=draw(st.sampled_from(["person", "judge", "reward_model", "rule"])),
                strength=draw(st.sampled_from([1, 2])),
                tags=tuple(draw(st.lists(texts, max_size=2))),
                dimensions=draw(st.dictionaries(texts, st.tuples(finite, finite), max_size=2)),
                campaign=draw(texts),
                schema_version=draw(st.none() | st.integers(0, 100)),
                seconds=draw(st.none() | measured),
                seconds_total=draw(st.none() | measured),
                gold=draw(st.booleans()),
                repeat=draw(st.booleans()),
                saw_judge=draw(st.booleans()),
                identity_leak=draw(st.booleans()),
                deciding=draw(st.booleans()),
                id=draw(st.just("") | st.uuids().map(str)),
                supersedes=supersedes,
            )
        )
    return rows, votes


def of_campaign(vote: Vote, campaign: str) -> Vote:
    """The vote with ids that no other campaign of the store has."""
    ids = {name: f"{campaign} {getattr(vote, name)}" for name in ("id", "supersedes") if getattr(vote, name)}
    return replace(vote, **ids)


def write(path: Path, rows: list[Any]) -> bytes:
    """Write rows as a file; its content."""
    with JsonlWriter(path) as file:
        for row in rows:
            file.write(row.to_json())
    return path.read_bytes()


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(collected=collections())
def test_file_store_file_is_identical(store: Store, collected: tuple[list[Candidates], list[Vote]]) -> None:
    campaign = f"c{next(NUMBERS)}"
    rows, votes = collected[0], [of_campaign(vote, campaign) for vote in collected[1]]
    store.write(lambda session: create_campaign(session, campaign, CampaignSchema(), "test"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row_bytes, vote_bytes = write(folder / "rows.jsonl", rows), write(folder / "votes.jsonl", votes)
        read_rows, read = read_candidates(folder / "rows.jsonl"), read_votes(folder / "votes.jsonl")
        assert (read_rows, read) == (rows, votes)

        added = store.write(lambda session: import_candidates(session, campaign, read_rows))
        cast = store.write(lambda session: import_votes(session, campaign, read))
        assert (added, cast) == (Imported(len(rows), 0), Imported(len(votes), 0))

        kept = store.read(lambda session: candidates_in(session, campaign))
        kept_votes = store.read(lambda session: votes_in(session, campaign))
        assert (kept, kept_votes) == (rows, votes)
        assert write(folder / "rows again.jsonl", kept) == row_bytes
        assert write(folder / "votes again.jsonl", kept_votes) == vote_bytes

        assert store.write(lambda session: import_candidates(session, campaign, kept)) == Imported(0, len(rows))
        assert store.write(lambda session: import_votes(session, campaign, kept_votes)) == Imported(0, len(votes))
