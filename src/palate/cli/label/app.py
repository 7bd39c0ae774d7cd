"""`palate label`: votes of people on candidates, in a store."""

from __future__ import annotations

import typer

from palate.cli.arguments import verb_group
from palate.cli.label import users
from palate.cli.label.campaign import assign_command, create_command, status_command
from palate.cli.label.serve import serve_command
from palate.cli.label.transfer import export_command, import_command

app = typer.Typer(
    cls=verb_group("label"),
    help="Collect people's votes on answers.\n\nExample: palate label serve --candidates candidates.jsonl",
    no_args_is_help=True,
)
app.command("serve")(serve_command)
app.command("create")(create_command)
app.command("import")(import_command)
app.command("assign")(assign_command)
app.command("status")(status_command)
app.command("export")(export_command)
app.add_typer(users.app, name="users")
