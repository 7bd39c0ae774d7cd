"""`palate interactions`: what the gateway has recorded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option, Typer

from palate.charts.text import amount
from palate.cli.arguments import StoreUrl, opened_store, verb_group, with_options
from palate.cli.console import print_done, print_json, print_note
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.serving.recording.erasure import Erased
    from palate.serving.recording.listing import Filter

app = Typer(
    cls=verb_group("interactions"),
    help="List and delete what the gateway has recorded.\n\nExample: palate interactions list --thumbs down",
    no_args_is_help=True,
)

Files = Annotated[
    list[Path] | None,
    Option("--files", metavar="FILE.jsonl", help="Another file to remove the rows from, as one of --save."),
]
WithCopies = Annotated[bool, Option("--with-copies", help="Also delete copies of the database from before upgrades.")]


def _time(option: str, text: str | None) -> datetime | None:
    from palate.feedback.votes import read_time

    try:
        return None if text is None else read_time(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: write a time in ISO 8601, as 2026-01-31 or 2026-01-31T12:00:00Z") from error


def read_filter(
    *,
    model: Annotated[str | None, Option("--model", "-m", help="Only of this version (name or content hash).")] = None,
    state: Annotated[
        Literal["reserved", "streaming", "complete", "cancelled", "refused", "unreachable", "upstream_error", "partial"]
        | None,
        Option("--state", help="Only in this state."),
    ] = None,
    since: Annotated[
        str | None, Option("--since", metavar="TIME", help="Only from this time on (ISO 8601, UTC).")
    ] = None,
    until: Annotated[str | None, Option("--until", metavar="TIME", help="Only before this time.")] = None,
    thumbs: Annotated[Literal["up", "down"] | None, Option("--thumbs", help="Only with this feedback.")] = None,
    key: Annotated[str | None, Option("--key", help="Only of this API key.")] = None,
    route: Annotated[
        str | None, Option("--route", help="Only of this route, as canary:production for both arms of a canary.")
    ] = None,
) -> Filter:
    """Which interactions, as it is given on the command line."""
    from palate.serving.recording.listing import Filter

    first, end = _time("--since", since), _time("--until", until)
    return Filter(model=model, state=state, since=first, until=end, thumbs=thumbs, key=key, route=route)


@app.command("list")
@with_options("wanted", read_filter)
def list_command(
    wanted: Filter,
    limit: Annotated[int, Option("--limit", min=0, help="Newest interactions to show; 0 for all.")] = 50,
    store: StoreUrl = None,
) -> None:
    """List interactions, oldest first.

    Example: palate interactions list --thumbs down --since 2026-01-01 --json
    """
    from palate.serving.recording.listing import read_interactions

    with opened_store(store) as opened:
        ids = opened.read(lambda session: list(session.scalars(wanted.query())))
        shown = ids[-limit:] if limit else ids
        found = opened.read(lambda session: [one.to_json() for one in read_interactions(session, shown)])
    text = "\n".join(_line(one) for one in found) or "no interactions"
    print_done(text, {"found": len(ids), "interactions": found})
    if len(shown) < len(ids):
        print_note(f"the newest {len(shown):,} of {len(ids):,}; --limit 0 shows all")


@app.command("show")
def show_command(
    id: Annotated[str, Argument(metavar="ID", help="Of the interaction, which is that of its completion.")],
    store: StoreUrl = None,
) -> None:
    """Print an interaction with its answers and feedback, as JSON with or without --json.

    Example: palate interactions show chatcmpl-0123456789abcdef0123456789abcdef
    """
    from palate.serving.recording.listing import read_interactions

    with opened_store(store) as opened:
        found = opened.read(lambda session: [one.to_json() for one in read_interactions(session, [id])])
    if not found:
        raise UsageError(f"there is no interaction {id}")
    print_json(found[0])


@app.command("delete")
@with_options("wanted", read_filter)
def delete_command(
    wanted: Filter,
    ids: Annotated[list[str] | None, Argument(metavar="ID", help="Of interactions.")] = None,
    files: Files = None,
    with_copies: WithCopies = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreUrl = None,
) -> None:
    """Delete interactions, by id or by filter, and everything that was made of them.

    Example: palate interactions delete --until 2026-01-01 --yes
    """
    from palate.serving.recording.erasure import erase, is_known
    from palate.store.tables import utc_now

    if bool(ids) == (wanted != read_filter()):
        raise UsageError("name interactions by their ids, or by filters such as --until, not both")
    with opened_store(store) as opened:
        given = ids or opened.read(lambda session: list(session.scalars(wanted.query())))
        if ids and not files and not is_known(opened, ids):
            raise UsageError(f"there is no interaction {', '.join(ids)} in {opened.url}, and nothing made of it")
        if not yes:
            typer.confirm(f"Delete {amount(len(given), 'interaction')} of {opened.url}?", abort=True, err=True)
        done = erase(opened, utc_now(), ids=given, files=files or (), with_copies=with_copies)
    _print_erased(done)


@app.command("forget")
def forget_command(
    user: Annotated[str, Option("--user", metavar="ID", help="What clients send as `user`.")],
    files: Files = None,
    with_copies: WithCopies = False,
    store: StoreUrl = None,
) -> None:
    """Delete everything of a person: interactions, feedback, campaign items, rows of exported files.

    What cannot be deleted (trained versions, files that were moved) is listed.

    Example: palate interactions forget --user anna@example.com
    """
    from palate.serving.recording import Recorder, shared_secret
    from palate.serving.recording.erasure import erase
    from palate.store.tables import utc_now

    with opened_store(store) as opened:
        person = Recorder(opened, secret=shared_secret(opened)).user_hash(user, None)
        done = erase(opened, utc_now(), user=person, files=files or (), with_copies=with_copies)
    _print_erased(done)


@app.command("purge")
def purge_command(
    days: Annotated[
        int | None, Option("--days", min=0, help="For interactions whose key has no retention of its own.")
    ] = None,
    store: StoreUrl = None,
) -> None:
    """Delete the interactions that are older than the retention of their key, as the gateway does each hour.

    Example: palate interactions purge
    """
    from palate.serving.recording.erasure import purge
    from palate.store.tables import utc_now

    with opened_store(store) as opened:
        deleted = purge(opened, utc_now(), days)
    print_done(f"{amount(deleted, 'interaction')} deleted", {"interactions": deleted})


@app.command("inventory")
def inventory_command() -> None:
    """List every column of the store that can hold something of a person, and what `forget` does with it.

    Example: palate interactions inventory
    """
    from palate.serving.recording.erasure import REACHED
    from palate.store.deletion import dependents
    from palate.store.personal import inventory
    from palate.store.tables import Base

    deleted = {table.name for table in dependents(REACHED)}
    found = [
        (table, column, kind, table in deleted and kind != "account")
        for table, columns in inventory(Base.metadata).items()
        for column, kind in columns.items()
    ]
    names = ("table", "column", "holds", "forgotten")
    words = {True: "deleted with the person's rows", False: "kept: of an account, see palate label users erase"}
    text = "\n".join(f"{f'{table}.{column}':<32} {kind:<8} {words[gone]}" for table, column, kind, gone in found)
    print_done(text, {"columns": [dict(zip(names, row)) for row in found]})


def _line(one: Mapping[str, Any]) -> str:
    thumbs = [row["thumbs"] for row in one["feedback"] if row["thumbs"]]
    head = one["created"][:19], one["id"], f"{one['state']:<14}", one["model"]
    return "  ".join([*head, *(f"thumbs {word}" for word in thumbs)])


def _print_erased(done: Erased) -> None:
    lines = [f"{name:<24} {count:,} rows deleted" for name, count in {**done.rows, **done.files}.items()]
    print_done("\n".join(lines) or "nothing was found", done)
    for line in done.remaining:
        print_note(f"still there: {line}")
    if done.trained:
        print_note(f"trained on it, which cannot be undone: {', '.join(done.trained)}")
