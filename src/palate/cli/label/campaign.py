"""`palate label create`, `assign` and `status`: campaigns, their tasks and their people."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from palate.charts.text import amount
from palate.cli.arguments import StoreUrl, opened_store, with_options
from palate.cli.columns import table
from palate.cli.console import print_done, print_json, print_note, print_result, wants_json
from palate.errors import ConfigError, DataError, UsageError

if TYPE_CHECKING:
    from palate.feedback.agreement import PeopleAgreement
    from palate.feedback.campaigns.campaign import CampaignSchema
    from palate.feedback.queue.people import PersonProgress
    from palate.feedback.queue.review import CampaignProgress
    from palate.stats.intervals import Interval
    from palate.store import Store

CampaignName = Annotated[str, Argument(metavar="CAMPAIGN", help="Name of the campaign.")]
SchemaFile = Annotated[
    Path | None, Option("--schema", metavar="FILE.yaml", help="YAML file with the keys of the schema.")
]
Update = Annotated[bool, Option("--update", help="The campaign exists: make this the next version of its schema.")]
Criteria = Annotated[str | None, Option("--criteria", help="What makes an answer better; the page shows it.")]
Tags = Annotated[list[str] | None, Option("--tag", help="A reason that people can choose; repeatable.")]
Dimensions = Annotated[list[str] | None, Option("--dimension", help="A score for each answer; repeatable.")]
VotesPerItem = Annotated[int | None, Option("--votes-per-item", help="Votes of different people on each task.")]
GoldShare = Annotated[float | None, Option("--gold-share", help="Share of tasks with a known answer.")]
RepeatShare = Annotated[float | None, Option("--repeat-share", help="Share of tasks shown again, sides swapped.")]
OrderName = Annotated[str | None, Option("--order", help="random, uncertain or disagreement.")]
PerPrompt = Annotated[int | None, Option("--per-prompt", help="Maximum number of answer pairs per prompt.")]
LeaseMinutes = Annotated[
    int | None, Option("--lease-minutes", help="Minutes for which a task is reserved for a person.")
]
Seed = Annotated[int | None, Option("--seed", help="Random seed of order, sides, gold and repeats.")]


def schema_keys(
    *,
    criteria: Criteria = None,
    tags: Tags = None,
    dimensions: Dimensions = None,
    votes_per_item: VotesPerItem = None,
    gold_share: GoldShare = None,
    repeat_share: RepeatShare = None,
    order: OrderName = None,
    per_prompt: PerPrompt = None,
    lease_minutes: LeaseMinutes = None,
    seed: Seed = None,
) -> dict[str, Any]:
    """The keys of the schema that are given as options."""
    return {key: value for key, value in dict(locals()).items() if value is not None}


@with_options("given", schema_keys)
def create_command(
    name: CampaignName,
    given: dict[str, Any],
    schema: SchemaFile = None,
    update: Update = False,
    store: StoreUrl = None,
) -> None:
    """Create a campaign, or change its schema with --update; options override the schema file.

    Example: palate label create helpful --votes-per-item 3 --gold-share 0.05
    """
    from palate.feedback.campaigns.campaign import change_schema, create_campaign, current_schema, find_campaign

    values = {**(_read_schema(schema) if schema is not None else {}), **given}
    with opened_store(store, create=True) as opened:
        if not update:
            opened.write(lambda session: create_campaign(session, name, _schema(values, schema), "command line"))
            text = f"campaign {name} created; next: palate label import --candidates FILE.jsonl --campaign {name}"
            print_done(text, {"campaign": name, "version": 1})
            return

        def change(session: Any) -> int:
            before = current_schema(session, find_campaign(session, name).id).to_json()
            new = _schema({**before, **values} if schema is None else values, schema)
            return change_schema(session, name, new, "command line")

        version = opened.write(change)
        print_done(
            f"campaign {name}: schema version {version}; a new order, --per-prompt or --seed applies after "
            f"`palate label assign {name}`",
            {"campaign": name, "version": version},
        )


def _read_schema(path: Path) -> dict[str, Any]:
    from palate.config.reader import read_yaml_file

    values = read_yaml_file(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a schema is a list of `key: value` lines; docs/label-campaigns.md lists the keys")
    return values


def _schema(values: dict[str, Any], path: Path | None) -> CampaignSchema:
    from palate.feedback.campaigns.campaign import CampaignSchema

    try:
        return CampaignSchema.from_json(values)
    except DataError as error:
        raise ConfigError(f"{path}: {error}" if path is not None else f"schema: {error}") from error


def assign_command(
    name: CampaignName,
    gold: Annotated[
        Path | None, Option("--gold", metavar="VOTES.jsonl", help="Votes of experts; their tasks become gold tasks.")
    ] = None,
    person: Annotated[str | None, Option("--person", help="Reserve the next tasks for this person.")] = None,
    tasks: Annotated[int, Option("--tasks", min=1, help="With --person: number of tasks.")] = 50,
    days: Annotated[float, Option("--days", min=0.01, help="With --person: reserved for so many days.")] = 7.0,
    store: StoreUrl = None,
) -> None:
    """Make the labelling tasks of a campaign, in the order of its schema; or reserve tasks for a person.

    Example: palate label assign helpful --gold experts.votes.jsonl
    """
    if person is not None and gold is not None:
        raise UsageError("--gold makes tasks, --person reserves some; run the command twice")

    from palate.feedback.campaigns.campaign import find_campaign, make_tasks
    from palate.feedback.campaigns.tasks import known_answers
    from palate.feedback.votes import read_votes

    answers = known_answers(read_votes(gold)) if gold is not None else None
    with opened_store(store) as opened:
        if person is not None:
            _reserve(opened, name, person, tasks, days)
            return
        made = opened.write(lambda session: make_tasks(session, find_campaign(session, name), answers))
    if made.unranked:
        print_note(f"{amount(made.unranked, 'task')} without a margin or two judges' votes, ordered as the median one")
    if made.leaks:
        print_note(f"{amount(made.leaks, 'task')} with an answer that names its maker; their votes: identity_leak")
    if made.without_pair:
        print_note(f"{amount(made.without_pair, 'item')} without two different answers: no task")
    text = f"{amount(made.new, 'new task')}, {made.same:,} there before; gold tasks among all: {made.gold:,}"
    print_done(text, made)


def _reserve(store: Store, name: str, person: str, tasks: int, days: float) -> None:
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from palate.feedback.queue.voting import reserve
    from palate.store.tables import User

    now = datetime.now(UTC)
    until = now + timedelta(days=days)

    def work(session: Session) -> int:
        user = session.scalar(select(User.id).where(User.name == person, User.active))
        if user is None:
            raise UsageError(f"there is no person {person}; add one with `palate label users add {person}`")
        return reserve(session, name, user, tasks, until, now)

    count = store.write(work)
    text = f"{amount(count, 'task')} reserved for {person} until {until:%Y-%m-%d %H:%M} UTC"
    print_done(text, {"reserved": count, "person": person, "until": until.isoformat()})


def status_command(
    campaign: Annotated[str | None, Option("--campaign", help="Only this campaign.")] = None, store: StoreUrl = None
) -> None:
    """Show the progress of campaigns, how far people agree, and each person's votes, speed and biases.

    Example: palate label status --campaign helpful
    """
    from sqlalchemy.orm import Session

    from palate.feedback.agreement import people_agreement
    from palate.feedback.campaigns.campaign import find_campaign, list_campaigns
    from palate.feedback.people_votes import people_votes
    from palate.feedback.queue.people import people
    from palate.feedback.queue.review import progress
    from palate.feedback.transfer import votes_in
    from palate.feedback.votes import Vote

    def work(session: Session) -> list[tuple[str, int, CampaignProgress, list[Vote], list[PersonProgress]]]:
        found = [find_campaign(session, campaign)] if campaign is not None else list_campaigns(session)
        return [
            (row.name, row.version, progress(session, row.name), votes_in(session, row.name), people(session, row.name))
            for row in found
        ]

    with opened_store(store) as opened:
        read = opened.read(work)
    found = [
        (name, version, counts, people_agreement(people_votes(votes)), persons)
        for name, version, counts, votes, persons in read
    ]
    if wants_json():
        rows = [
            {"campaign": name, "version": version, **asdict(counts), "agreement": agreement, "people": persons}
            for name, version, counts, agreement, persons in found
        ]
        print_json({"campaigns": rows})
        return
    if not found:
        raise UsageError("there is no campaign; create one with `palate label create`")
    print_result("\n\n".join(_status(*row) for row in found))


def _status(
    name: str, version: int, counts: CampaignProgress, agreement: PeopleAgreement, persons: list[PersonProgress]
) -> str:
    lines = [
        f"campaign {name}, schema version {version}",
        f"  votes     {counts.votes:,} of {counts.wanted:,}",
        f"  tasks     {counts.finished:,} of {counts.tasks:,} finished, {counts.gold:,} gold",
        f"  review    {counts.conflicts:,} with different votes, {counts.flagged:,} flagged",
    ]
    if agreement.voted_twice:
        tasks = amount(agreement.voted_twice, "task")
        lines.append(f"  agreement {agreement.percent} on {tasks} with votes of several people")
        lines.append(f"  α         {agreement.alpha_nominal} (Krippendorff)")
    if counts.identity_leak:
        lines.append(f"  not blind {amount(counts.identity_leak, 'task')} with an answer that names its maker")
    if not persons:
        return "\n".join([*lines, "  nobody has been given a task yet"])
    names = ("person", "votes", "skip", "flag", "per hour", "left won", "p", "gold", "repeats")
    rows = []
    for row in persons:
        counted = [f"{count:,}" for count in (row.votes, row.skipped, row.flagged)]
        speed = "–" if row.per_hour is None else f"{row.per_hour:.0f}"
        bias = "–" if row.side_bias is None else f"{row.side_bias:.2g}"
        known = [_percent(row.gold_accuracy), _percent(row.self_consistency)]
        rows.append([row.name, *counted, speed, _percent(row.left_share), bias, *known])
    return "\n".join([*lines, "", table(names, rows, right=range(1, len(names)))])


def _percent(share: Interval | None) -> str:
    return "–" if share is None else f"{share.estimate:.0%}"
