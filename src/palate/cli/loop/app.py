"""`palate loop`: the cycle from collected feedback to the next served model, and its gate."""

from __future__ import annotations

import typer

from palate.cli.arguments import verb_group
from palate.cli.loop import debug, decide, gate, mix

app = typer.Typer(cls=verb_group("loop"), no_args_is_help=True)


@app.callback()
def _sub_verbs() -> None:
    """Decide whether a trained model may replace the one in use.

    Example: palate loop gate winrate bench --config gate.yaml
    """


app.command("gate")(gate.gate_command)
app.command("debug")(debug.debug_command)
app.command("mix")(mix.mix_command)
app.command("sign")(decide.sign_command)
app.command("force")(decide.force_command)
app.command("reject")(decide.reject_command)
