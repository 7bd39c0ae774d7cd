"""`palate label users`: accounts by the command line; passwords come from the terminal or the environment only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from palate.cli.label import users
from palate.cli.main import app, main
from palate.errors import StoreError, UsageError
from palate.store import open_store
from palate.store.tables import utc_now
from palate.web.security import accounts, passwords, sessions

PASSWORD = "a long password 1"


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "palate.db")


def run(*arguments: str, password: str | None = PASSWORD) -> str:
    """What a command prints; expected failures are raised."""
    done = CliRunner().invoke(
        app, ["label", "users", *arguments], env={"PALATE_PASSWORD": password or ""}, standalone_mode=False
    )
    if done.exception is not None:
        raise done.exception
    assert done.exit_code == 0
    return done.stdout


def test_add_list_passwd_disable(store: str) -> None:
    assert run("add", "anna", "--role", "reviewer", "--store", store) == "anna can log in; role reviewer\n"
    run("add", "ben", "--store", store)
    listed = json.loads(run("list", "--json", "--store", store))["accounts"]
    assert [(row["name"], row["role"], row["active"]) for row in listed] == [
        ("anna", "reviewer", True),
        ("ben", "annotator", True),
    ]
    opened = open_store(store)
    anna = opened.read(lambda session: accounts.find_account(session, "ANNA"))
    assert anna is not None
    assert passwords.matches(anna.password_hash, PASSWORD)
    assert PASSWORD not in anna.password_hash
    now = utc_now()
    opened.write(lambda session: sessions.open_login(session, anna.id, "token", now=now, hours=1))

    assert "logged out everywhere" in run("passwd", "anna", "--store", store, password="another password 2")
    assert opened.read(lambda session: sessions.find_login(session, "token", now)) is None
    changed = opened.read(lambda session: accounts.find_account(session, "anna"))
    assert changed is not None
    assert passwords.matches(changed.password_hash, "another password 2")

    opened.write(lambda session: sessions.open_login(session, anna.id, "token", now=now, hours=1))
    run("disable", "anna", "--store", store)
    assert opened.read(lambda session: sessions.find_login(session, "token", now)) is None
    assert "anna  reviewer, since" in run("list", "--store", store)
    assert "disabled" in run("list", "--store", store)
    assert opened.read(accounts.can_log_in) == 1
    run("disable", "anna", "--undo", "--store", store)
    assert opened.read(accounts.can_log_in) == 2
    opened.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "anna"), "there is such an account"),
        (("add", "ANNA"), "there is such an account"),
        (("add", "local"), "is the name of the person without an account"),
        (("add", "two words"), "a name has 1 to 64 letters"),
        (("add", "<script>"), "a name has 1 to 64 letters"),
        (("add", "../x"), "a name has 1 to 64 letters"),
        (("add", "x" * 65), "a name has 1 to 64 letters"),
        (("add", ""), "a name has 1 to 64 letters"),
        (("passwd", "nobody"), "there is no such account"),
        (("passwd", "local"), "there is no such account"),
        (("disable", "nobody"), "there is no such account"),
    ],
)
def test_what_is_refused(store: str, arguments: tuple[str, ...], message: str) -> None:
    run("add", "anna", "--store", store)
    with pytest.raises(UsageError, match=message):
        run(*arguments, "--store", store)


def test_a_bad_password_is_refused(store: str) -> None:
    with pytest.raises(UsageError, match="use at least 10"):
        run("add", "anna", "--store", store, password="short")


def test_without_a_terminal_the_variable_is_named(store: str) -> None:
    with pytest.raises(UsageError, match="there is no terminal to ask for the password of anna; set PALATE_PASSWORD"):
        run("add", "anna", "--store", store, password=None)


def test_the_terminal_is_asked_twice_and_shows_nothing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prompt(text: str, **options: object) -> str:
        asked.append((text, options))
        return PASSWORD

    monkeypatch.setattr(users.sys.stdin.__class__, "isatty", lambda _: True, raising=False)
    monkeypatch.setattr(users.typer, "prompt", prompt)
    monkeypatch.delenv("PALATE_PASSWORD", raising=False)
    users.add_command("anna", store=store)
    assert asked == [("Password of anna", {"hide_input": True, "confirmation_prompt": True, "err": True})]


def test_there_is_no_option_for_the_password() -> None:
    for command in ("add", "passwd"):
        assert "--password" not in run(command, "--help")


@pytest.mark.parametrize("arguments", [("list",), ("passwd", "anna"), ("disable", "anna")])
def test_only_add_makes_a_database(store: str, arguments: tuple[str, ...]) -> None:
    with pytest.raises(StoreError, match="there is no such database"):
        run(*arguments, "--store", store)
    assert not Path(store).exists()


def test_the_local_person_is_not_listed(store: str) -> None:
    run("add", "anna", "--store", store)
    opened = open_store(store)
    opened.write(lambda session: accounts.local_person(session, utc_now()))
    opened.close()
    assert "local" not in run("list", "--store", store)


def test_it_is_part_of_palate_label(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALATE_PASSWORD", PASSWORD)
    assert main(["label", "users", "add", "anna", "--role", "admin", "--store", store]) == 0
    assert capsys.readouterr().out == "anna can log in; role admin\n"
    assert main(["label", "users", "add", "anna", "--store", store]) == 2
    assert capsys.readouterr().err == (
        "palate: error: anna: there is such an account; palate label users passwd changes its password\n"
    )
