"""Campaigns have names, and versions of their schema that stay readable."""

from __future__ import annotations

import pytest

from labelling import labelling
from palate.errors import UsageError
from palate.feedback.campaigns.campaign import (
    CampaignSchema,
    change_schema,
    create_campaign,
    current_schema,
    find_campaign,
    list_campaigns,
)
from palate.feedback.campaigns.schema import read_schema
from palate.store import Store


def test_old_versions_of_a_schema_stay_readable(store: Store) -> None:
    first, second = CampaignSchema("be brief", votes_per_item=2), CampaignSchema("be kind", ("rude",))
    identifier = store.write(lambda session: create_campaign(session, "help", first, "ann").id)
    assert store.write(lambda session: change_schema(session, "help", second, "bob")) == 2
    assert store.read(lambda session: current_schema(session, identifier)) == second
    assert store.read(lambda session: read_schema(session, find_campaign(session, "help"), 1)) == first
    assert store.read(lambda session: [(row.name, row.version) for row in list_campaigns(session)]) == [("help", 2)]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "-a", "ä", "x" * 101])
def test_a_name_must_fit_in_an_address(sqlite_store: Store, name: str) -> None:
    with pytest.raises(UsageError, match="a name has letters, digits"):
        sqlite_store.write(lambda session: create_campaign(session, name, CampaignSchema(), ""))


def test_a_name_is_given_once_and_an_unknown_one_is_answered_with_those_there_are(sqlite_store: Store) -> None:
    with pytest.raises(UsageError, match="create it with `palate label create`"):
        sqlite_store.read(lambda session: find_campaign(session, "helpfull"))
    sqlite_store.write(lambda session: create_campaign(session, "helpful", CampaignSchema(), ""))
    with pytest.raises(UsageError, match="there is a campaign helpful already"):
        sqlite_store.write(lambda session: create_campaign(session, "helpful", CampaignSchema(), ""))
    with pytest.raises(UsageError, match="no campaign helpfull; there are helpful"):
        sqlite_store.read(lambda session: find_campaign(session, "helpfull"))


def test_more_votes_in_mid_campaign_open_finished_tasks_again(store: Store) -> None:
    work = labelling(store, items=2, people=2)
    work.label(0)
    work.label(0)
    assert work.next(1) is None, "both tasks have their vote"
    work.store.write(lambda session: change_schema(session, "c", CampaignSchema(votes_per_item=2), "test"))
    assert work.next(0) is None, "this person has had both"
    assert {work.label(1).schema_version, work.label(1).schema_version} == {2}
    assert work.next(1) is None
    assert [(task.votes, task.wanted, task.open) for task in work.tasks()] == [(2, 2, 0)] * 2
    assert sorted(vote.schema_version or 0 for vote in work.votes()) == [1, 1, 2, 2]


def test_fewer_votes_in_mid_campaign_accept_what_people_have_open(store: Store) -> None:
    work = labelling(store, items=1, people=4, votes_per_item=3)
    open_leases = [work.given(person) for person in range(3)]
    work.vote(open_leases[0].lease, person=0)
    work.store.write(lambda session: change_schema(session, "c", CampaignSchema(votes_per_item=1), "test"))
    assert work.next(3) is None
    assert work.vote(open_leases[1].lease, person=1).status == "recorded"
    assert work.vote(open_leases[2].lease, "skip", person=2).status == "recorded"
    [task] = work.tasks()
    assert (task.votes, task.wanted, task.open) == (2, 1, 0)
    assert work.next(3) is None
    assert {vote.schema_version for vote in work.votes()} == {1}, "the version that the people saw"
