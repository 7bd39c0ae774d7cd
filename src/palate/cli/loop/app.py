"""`palate loop`: the cycle from collected feedback to the next served model, and its gate."""

from __future__ import annotations

import typer

from palate.cli.arguments import verb_group
from palate.cli.loop import cycle, debug, decide, gate, mix

app = typer.Typer(
    cls=verb_group("loop"),
    help="Run the cycle from collected feedback to the next served model, step by step.\n\nExample: palate loop tick",
    no_args_is_help=True,
)
app.command("init")(cycle.init_command)
app.command("tick")(cycle.tick_command)
app.command("run")(cycle.run_command)
app.command("status")(cycle.status_command)
app.command("abandon")(cycle.abandon_command)
app.command("gate")(gate.gate_command)
app.command("sign")(decide.sign_command)
app.command("force")(decide.force_command)
app.command("reject")(decide.reject_command)
app.command("canary")(decide.canary_command)
app.command("mix")(mix.mix_command)
app.command("debug")(debug.debug_command)
