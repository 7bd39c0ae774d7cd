"""The file of `--save` has the pairs that the votes in the database decide, at every moment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from palate.artifacts import read_jsonl
from palate.errors import ArtifactError
from palate.feedback.campaigns.campaign import CampaignSchema, create_campaign, make_tasks
from palate.feedback.candidates import Candidates
from palate.feedback.page.decided import restore_pairs, task_of_lease, write_and_save
from palate.feedback.page.save import PreferenceFile
from palate.feedback.queue.ballot import Ballot, Choice
from palate.feedback.queue.review import decide
from palate.feedback.queue.voting import next_assignment, submit, undo
from palate.feedback.transfer import import_candidates
from palate.records import Answer, Message
from palate.store import open_store
from palate.store.tables import Task, User


class Labelling:
    """A campaign with one item, three people, and the file."""

    def __init__(self, folder: Path, *, reasoning: bool = False, **schema: Any) -> None:
        self.path = folder / "preferences.jsonl"
        self.store = open_store(str(folder / "palate.db"))
        self.file = PreferenceFile(self.path)
        self.now = datetime.now(UTC) + timedelta(seconds=1)  # after the file was opened
        turn = Message("assistant", "hm", reasoning_content="because" if reasoning else None)
        prompt = (Message("user", "hello"), turn, Message("user", "why?"))
        row = Candidates("item", prompt, (Answer("left text", "stop"), Answer("right text", "stop")))

        def work(session: Any) -> list[int]:
            people = [User(name=name, role="reviewer", created=self.now) for name in ("a", "b", "c")]
            session.add_all(people)
            campaign = create_campaign(session, "c", CampaignSchema(**schema), "a")
            import_candidates(session, "c", [row])
            make_tasks(session, campaign)
            return [person.id for person in people]

        self.people = self.store.write(work)

    def vote(self, person: int, outcome: str, *, file: bool = True, key: str = "") -> None:
        """The person votes that this answer, `left` or `right` of the item, is better, or one of the other choices."""
        user = self.people[person]
        self.now += timedelta(seconds=1)
        given = self.store.write(lambda session: next_assignment(session, "c", user, self.now))
        assert given is not None
        first = "left" if given.shown == "left_first" else "right"
        choice: Choice = outcome if outcome not in ("left", "right") else "first" if outcome == first else "second"  # type: ignore[assignment]
        ballot = Ballot(choice=choice, request_key=key or f"{person} {self.now}")
        write_and_save(
            self.store,
            self.file if file else None,
            lambda session: submit(session, given.lease, user, ballot, self.now),
            lambda session, _: task_of_lease(session, given.lease),
        )

    def undo(self, person: int) -> None:
        self.now += timedelta(seconds=1)
        write_and_save(
            self.store,
            self.file,
            lambda session: undo(session, "c", self.people[person], self.now),
            lambda session, again: None if again is None else task_of_lease(session, again.lease),
        )

    def decide(self, person: int, choice: Choice) -> None:
        self.now += timedelta(seconds=1)
        task = self.store.read(lambda session: session.scalars(select(Task.id)).one())
        ballot = Ballot(choice=choice, request_key=f"decide {self.now}")
        write_and_save(
            self.store,
            self.file,
            lambda session: decide(session, task, self.people[person], ballot, self.now),
            lambda *_: task,
        )

    @property
    def chosen(self) -> list[str]:
        """The better answer of each line of the file."""
        return [row["chosen"].removesuffix(" text") for row in read_jsonl(self.path)]

    def kill(self) -> None:
        """What the end of a process does to the file."""
        self.file._writer.close()
        self.file._owner.close()

    def close(self) -> None:
        self.file.close()
        self.store.close()


@pytest.fixture
def labelling(tmp_path: Path) -> Iterator[Any]:
    made: list[Labelling] = []

    def make(**how: Any) -> Labelling:
        made.append(Labelling(tmp_path, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_pair_is_there_when_it_has_all_its_votes(labelling: Any) -> None:
    one = labelling(votes_per_item=3)
    one.vote(0, "left")
    one.vote(1, "right")
    assert one.chosen == []
    one.vote(2, "left")
    assert one.chosen == ["left"]
    (row,) = read_jsonl(one.path)
    assert [turn["value"] for turn in row["conversations"]] == ["hello", "hm", "why?"]
    assert row["rejected"] == "right text"


@pytest.mark.parametrize(
    ("votes", "chosen"),
    [
        (["left", "right", "tie"], []),
        (["left", "tie", "tie"], ["left"]),
        (["left", "both_bad", "both_bad"], []),
        (["right", "right", "both_bad"], ["right"]),
        (["both_bad", "both_bad", "both_bad"], []),
    ],
)
def test_the_majority_decides(labelling: Any, votes: list[str], chosen: list[str]) -> None:
    one = labelling(votes_per_item=3)
    for person, outcome in enumerate(votes):
        one.vote(person, outcome)
    assert one.chosen == chosen


def test_undo_and_another_vote_change_the_line(labelling: Any) -> None:
    one = labelling(votes_per_item=3)
    for person, outcome in enumerate(["left", "right", "left"]):
        one.vote(person, outcome)
    one.undo(2)
    assert one.chosen == []
    one.vote(2, "right")
    assert one.chosen == ["right"]


def test_a_flag_keeps_the_pair_out_until_a_reviewer_decides(labelling: Any) -> None:
    one = labelling()
    one.vote(0, "flag")
    one.vote(1, "left")
    assert one.chosen == []
    one.decide(2, "second")
    decided = one.chosen
    assert len(decided) == 1
    one.decide(2, "first")
    assert len(one.chosen) == 1
    assert one.chosen != decided, "a later decision replaces the line"


def test_a_prompt_that_the_format_cannot_express_is_said_and_the_vote_stays(
    labelling: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = labelling(reasoning=True)
    one.vote(0, "left")
    assert one.chosen == []
    assert "item: the pair cannot be saved as conversations: a turn has reasoning" in caplog.text


def test_a_line_that_could_not_be_written_comes_with_the_next_vote(
    labelling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = labelling()

    def full(row: object) -> None:
        raise ArtifactError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(one.file._writer, "write", full)
        with pytest.raises(ArtifactError):
            one.vote(0, "left")
    assert one.chosen == []
    one.undo(1)  # nothing to undo; any request brings it
    assert one.chosen == ["left"]


def test_a_pair_that_a_killed_server_did_not_write_is_added(labelling: Any) -> None:
    one = labelling()
    one.vote(0, "left", file=False)  # committed, and killed before the line
    one.kill()
    one.file = PreferenceFile(one.path)
    assert restore_pairs(one.store, one.file) == 1
    assert restore_pairs(one.store, one.file) == 0
    assert one.chosen == ["left"]


def test_pairs_of_sessions_without_the_file_stay_out(labelling: Any) -> None:
    one = labelling()
    one.file.close()  # in order
    one.vote(0, "left", file=False)
    one.file = PreferenceFile(one.path)
    assert restore_pairs(one.store, one.file) == 0
    assert one.chosen == []


def test_a_deleted_file_begins_empty(labelling: Any) -> None:
    one = labelling()
    one.vote(0, "left", file=False)
    one.kill()
    one.path.unlink()
    one.file = PreferenceFile(one.path)
    assert restore_pairs(one.store, one.file) == 0
