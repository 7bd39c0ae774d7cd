"""Progress, tasks for reviewers, and their deciding votes."""

from __future__ import annotations

import pytest

from labelling import Labelling, candidate, labelling
from palate.errors import UsageError
from palate.feedback.queue.ballot import Choice
from palate.feedback.queue.review import CampaignProgress, Conflict, conflicts, decide, progress
from palate.feedback.votes import Vote, valid_votes
from palate.store import Store


def progress_of(work: Labelling) -> CampaignProgress:
    return work.store.read(lambda session: progress(session, "c"))


def conflicts_of(work: Labelling) -> list[Conflict]:
    return work.store.read(lambda session: conflicts(session, "c"))


def decided(work: Labelling, task: int, choice: Choice, person: int = 0, key: str = "d") -> Vote:
    ballot = work.ballot(choice, request_key=key)
    return work.store.write(lambda session: decide(session, task, work.people[person], ballot, work.now))


def answers(work: Labelling, outcomes: dict[str, list[str]]) -> None:
    """Votes for each item: the first person's outcome, the second's …"""
    for person in range(len(work.people)):
        while (task := work.next(person)) is not None:
            outcome = outcomes[task.item][person]
            first = "left" if task.shown == "left_first" else "right"
            choice = outcome if outcome not in ("left", "right") else "first" if outcome == first else "second"
            work.vote(task.lease, choice, person)  # type: ignore[arg-type]


def test_progress_and_conflicts(store: Store) -> None:
    rows = [*map(candidate, ("same", "split", "tied", "gold")), candidate("named", "I am Claude.", "no")]
    work = labelling(store, rows, people=2, gold={("gold", 0, 1): "left"}, votes_per_item=2)
    assert progress_of(work) == CampaignProgress(4, 1, 8, 0, 0, 0, 0, 1)
    answers(
        work,
        {
            "same": ["left", "left"],
            "split": ["left", "right"],
            "tied": ["tie", "both_bad"],
            "named": ["flag", "right"],
            "gold": ["left", "left"],
        },
    )
    assert progress_of(work) == CampaignProgress(4, 1, 8, 7, 3, 1, 2, 1)
    found = {conflict.item: conflict for conflict in conflicts_of(work)}
    assert sorted(found) == ["named", "split", "tied"]
    split = found["split"]
    assert (split.left, split.right, split.flagged) == ("left of split", "right of split", False)
    assert [(vote.who, vote.outcome) for vote in split.votes] == [("p0", "left"), ("p1", "right")]
    assert found["named"].flagged


def test_an_undone_vote_is_no_conflict(store: Store) -> None:
    work = labelling(store, [candidate("a")], people=2, votes_per_item=2)
    answers(work, {"a": ["left", "right"]})
    assert progress_of(work).conflicts == 1
    undone = work.undo(1)
    assert undone is not None
    assert conflicts_of(work) == []
    answers(work, {"a": ["left", "left"]})
    assert conflicts_of(work) == []


def test_repeats_are_no_conflict(store: Store) -> None:
    work = labelling(store, 40, repeat_share=0.4)
    given = [work.label(choice="first") for _ in range(40)]
    assert any(task.repeat for task in given), "with sides swapped, first is the other answer"
    assert progress_of(work).conflicts == 0
    assert conflicts_of(work) == []


def test_a_reviewer_decides_and_can_change_it(store: Store) -> None:
    work = labelling(store, [candidate("a")], people=3, votes_per_item=2)
    answers(work, {"a": ["left", "right", ""]})
    [conflict] = conflicts_of(work)
    vote = decided(work, conflict.task, "second_much", 2)
    assert (vote.outcome, vote.strength, vote.deciding, vote.who, vote.shown) == ("right", 2, True, "p2", "left_first")
    assert conflicts_of(work) == []
    assert progress_of(work) == CampaignProgress(1, 0, 2, 2, 1, 0, 0, 0), "it is none of the votes that a task wants"
    assert decided(work, conflict.task, "first", 2) == vote, "sent twice"
    changed = decided(work, conflict.task, "tie", 0, key="e")
    assert changed.supersedes == vote.id
    assert [vote.outcome for vote in valid_votes(work.votes()) if vote.deciding] == ["tie"]
    assert conflicts_of(work) == []


def test_a_decision_decides_something(store: Store) -> None:
    work = labelling(store, 1)
    with pytest.raises(UsageError, match="a deciding vote is for an answer"):
        decided(work, 1, "skip")
    with pytest.raises(UsageError, match="there is no task 99"):
        decided(work, 99, "first")


def test_a_deciding_vote_survives_a_file(store: Store) -> None:
    work = labelling(store, 1)
    vote = decided(work, work.tasks()[0].id, "first")
    assert Vote(**{**vote.to_json(), "tags": ()}) == vote
    assert work.votes() == [vote]
