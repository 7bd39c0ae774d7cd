"""`palate label users`: accounts of the people who label."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option, Typer

from palate.cli.arguments import StoreUrl, check_installed, opened_store, verb_group
from palate.cli.columns import two_columns
from palate.cli.console import print_done, print_json, print_note, print_result, wants_json
from palate.errors import UsageError

PASSWORD_VARIABLE = "PALATE_PASSWORD"  # noqa: S105 - the name of a variable

Name = Annotated[str, Argument(metavar="NAME", help="Name that the person logs in with.")]
RoleName = Annotated[
    Literal["annotator", "reviewer", "admin"],
    Option("--role", help="annotator labels; reviewer also decides conflicts; admin also sees and changes all."),
]
app = Typer(
    cls=verb_group("label", "users"),
    help="Accounts of the people who label.\n\nExample: palate label users add anna --role reviewer",
    no_args_is_help=True,
)


@app.command("add")
def add_command(name: Name, role: RoleName = "annotator", store: StoreUrl = None) -> None:
    """Add an account. The password is asked for, or read from PALATE_PASSWORD.

    Example: palate label users add anna --role reviewer
    """
    from palate.store.tables import utc_now
    from palate.web.security import accounts

    stored = _new_hash(name)
    now = utc_now()
    with opened_store(store, create=True) as database:
        person = database.write(lambda session: accounts.add_account(session, name, stored, role, now))
    print_done(f"{person.name} can log in; role {person.role}", {"name": person.name, "role": person.role})


@app.command("list")
def list_command(store: StoreUrl = None) -> None:
    """List accounts: name, role, since when, and whether they are disabled.

    Example: palate label users list
    """
    from palate.web.security import accounts

    with opened_store(store) as database:
        found = database.read(accounts.list_accounts)
    if wants_json():
        names = ("name", "role", "active", "created")
        print_json({"accounts": [{name: getattr(user, name) for name in names} for user in found]})
    elif not found:
        print_result("no accounts")
    else:
        lines = [
            (user.name, f"{user.role}, since {user.created:%Y-%m-%d}{'' if user.active else ', disabled'}")
            for user in found
        ]
        print_result(two_columns(lines))


@app.command("passwd")
def passwd_command(name: Name, store: StoreUrl = None) -> None:
    """Change a password; the person is logged out everywhere. Asked for, or read from PALATE_PASSWORD.

    Example: palate label users passwd anna
    """
    from palate.web.security import accounts

    stored = _new_hash(name)
    with opened_store(store) as database:
        person = database.write(lambda session: accounts.set_password(session, name, stored))
    print_done(f"{person.name}: new password; logged out everywhere", {"name": person.name})


@app.command("disable")
def disable_command(
    name: Name,
    undo: Annotated[bool, Option("--undo", help="Let the person log in again.")] = False,
    store: StoreUrl = None,
) -> None:
    """Disable an account: the person is logged out and cannot log in; votes stay.

    Example: palate label users disable anna
    """
    from palate.web.security import accounts

    with opened_store(store) as database:
        person = database.write(lambda session: accounts.set_active(session, name, active=undo))
    state = "can log in again" if undo else "is logged out and cannot log in any more"
    print_done(f"{person.name} {state}", {"name": person.name, "active": undo})


@app.command("erase")
def erase_command(
    name: Name,
    files: Annotated[
        list[Path] | None,
        Option("--files", metavar="FILE", help="A .jsonl or .json file with votes or a judge card; repeatable."),
    ] = None,
    with_copies: Annotated[
        bool, Option("--with-copies", help="Also delete copies of the database from before upgrades.")
    ] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreUrl = None,
) -> None:
    """Put a pseudonym in place of a person's name, and empty the reasons that the person wrote; votes stay.

    The account stays disabled. This cannot be undone.

    Example: palate label users erase anna --files votes.jsonl
    """
    from palate.feedback.erase_account import erase_account

    with opened_store(store) as database:
        if not yes:
            typer.confirm(f"Erase the name {name} from {database.url}? This cannot be undone.", abort=True, err=True)
        done = erase_account(database, name, files=files or (), with_copies=with_copies)
    lines = [f"{place:<24} {count:,} changed" for place, count in {**done.rows, **done.files}.items()]
    print_done("\n".join([f"{name} is {done.pseudonym} now", *lines]), done)
    for line in done.remaining:
        print_note(f"still there: {line}")


def _new_hash(name: str) -> str:
    check_installed("label")
    from palate.web.security.passwords import hash_password

    return hash_password(_new_password(name), name=name)


def _new_password(name: str) -> str:
    """Never an option: command lines are visible to everybody on a machine, and shells keep them."""
    given = os.environ.get(PASSWORD_VARIABLE)
    if given:
        return given
    if not sys.stdin.isatty():
        raise UsageError(f"there is no terminal to ask for the password of {name}; set {PASSWORD_VARIABLE}")
    typed: str = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True)
    return typed
