"""`palate keys`: API keys of `palate serve`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from typer import Argument, Option, Typer

from palate.cli.arguments import StoreUrl, opened_store, verb_group
from palate.cli.columns import two_columns
from palate.cli.console import print_done, print_json, print_note, print_result, wants_json

Name = Annotated[str, Argument(metavar="NAME", help="Name of the key, as of the program that uses it.")]
Record = Annotated[
    Literal["none", "metadata", "redacted", "full"],
    Option(
        "--record", metavar="LEVEL", help="Recorded of its requests: none, metadata (numbers), redacted (texts), full."
    ),
]
Consent = Annotated[
    bool, Option("--consent/--no-consent", help="Whether its people consented to training, by default.")
]
RequestsPerMinute = Annotated[
    int | None, Option("--requests-per-minute", metavar="N", min=1, help="Default: no limit.")
]
TokensPerDay = Annotated[
    int | None, Option("--tokens-per-day", metavar="N", min=1, help="Read and written, by UTC days. Default: no limit.")
]
RetentionDays = Annotated[
    int | None, Option("--retention-days", metavar="N", min=1, help="Older interactions are deleted. Default: kept.")
]

_LISTED = ("name", "active", "created", "last_used")
"""What `list --json` has of a key besides its terms."""
app = Typer(
    cls=verb_group("keys"),
    help="API keys of `palate serve`.\n\nExample: palate keys create chat-ui --requests-per-minute 60",
    no_args_is_help=True,
)


@app.command("create")
def create_command(
    name: Name,
    record: Record = "none",
    consent: Consent = False,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_day: TokensPerDay = None,
    retention_days: RetentionDays = None,
    store: StoreUrl = None,
) -> None:
    """Make a key and show it, once: the store has its hash only.

    Example: palate keys create chat-ui --requests-per-minute 60
    """
    from palate.serving.keys import KeyTerms, create_key
    from palate.store.tables import utc_now

    terms = KeyTerms(
        recording=record,
        consent=consent,
        requests_per_minute=requests_per_minute,
        tokens_per_day=tokens_per_day,
        retention_days=retention_days,
    )
    now = utc_now()
    with opened_store(store, create=True) as opened:
        key = opened.write(lambda session: create_key(session, name, terms, now))
    print_done(key, {"name": name, "key": key})
    print_note("this key is not shown again; a running server without keys asks for it after a restart")


@app.command("list")
def list_command(store: StoreUrl = None) -> None:
    """List keys: what they record and allow, and when they were used last.

    Example: palate keys list
    """
    from palate.serving.keys import KeyTerms, list_keys

    with opened_store(store) as opened:
        found = opened.read(list_keys)
    if wants_json():
        rows = [{**asdict(KeyTerms.of(key)), **{name: getattr(key, name) for name in _LISTED}} for key in found]
        print_json({"keys": rows})
    elif not found:
        print_result("no keys")
    else:
        lines = []
        for key in found:
            used = f"used {key.last_used:%Y-%m-%d %H:%M} UTC" if key.last_used else "never used"
            limits = [f"{key.requests_per_minute} requests/min"] if key.requests_per_minute else []
            limits += [f"{key.tokens_per_day:,} tokens/day"] if key.tokens_per_day else []
            state = [] if key.active else ["revoked"]
            lines.append((key.name, ", ".join([f"records {key.recording}", *limits, used, *state])))
        print_result(two_columns(lines))


@app.command("revoke")
def revoke_command(name: Name, store: StoreUrl = None) -> None:
    """Revoke a key. A running server notices within five seconds.

    Example: palate keys revoke chat-ui
    """
    from palate.serving.keys import revoke_key

    with opened_store(store) as opened:
        opened.write(lambda session: revoke_key(session, name))
    print_done(f"{name} is revoked", {"name": name, "active": False})
