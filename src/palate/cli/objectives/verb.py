"""`palate objectives`: the losses that `pref_loss` may name, with formula, options and initial value."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from typer import Argument, Option

from palate.cli.console import print_done

Name: TypeAlias = Annotated[str | None, Argument(metavar="NAME", help="One objective, with its options. Default: all.")]

Full: TypeAlias = Annotated[bool, Option("--full", help="Show all of them with their options.")]


def command(name: Name = None, full: Full = False) -> None:
    """List the training objectives, or show one: loss, options, loss at step 0, paper, and the same option in TRL.

    Example: palate objectives simpo
    """
    from palate.cli.objectives.texts import all_objectives, objective_text, online_text
    from palate.config.objectives.docs import plain, plain_online
    from palate.config.objectives.lookup import OBJECTIVES, objective
    from palate.config.objectives.online import ONLINE_OBJECTIVES

    if name is None:
        rows = [*map(plain, OBJECTIVES.values()), *map(plain_online, ONLINE_OBJECTIVES.values())]
        value: dict[str, Any] = {"objectives": rows}
        texts = [*map(objective_text, OBJECTIVES.values()), *map(online_text, ONLINE_OBJECTIVES.values())]
        text = "\n\n".join(texts) if full else all_objectives()
    elif name.strip().lower() in ONLINE_OBJECTIVES:
        online = ONLINE_OBJECTIVES[name.strip().lower()]
        value, text = plain_online(online), online_text(online)
    else:
        row = objective(name)
        value, text = plain(row), objective_text(row)
    print_done(text, value)
