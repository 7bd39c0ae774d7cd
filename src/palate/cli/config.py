"""`palate config`: JSON schemas of config files, for editors."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from typer import Argument, Option, Typer

from palate.cli.arguments import verb_group
from palate.cli.console import print_done, print_json

SCHEMA_FILE = "palate.schema.json"
"""Beside a config that `palate init --schema` writes."""

app = Typer(
    cls=verb_group("config"),
    help="JSON schemas of config files, by which editors complete and check keys.\n\n"
    "Example: palate config schema train -o palate.schema.json",
    no_args_is_help=True,
)
Kind: TypeAlias = Literal["train", "loop", "gate", "serve", "campaign"]
# Kind → the module and class that check it, and the command that reads it.
_CLASSES = {
    "loop": ("palate.loop.config", "LoopFields", "palate loop"),
    "gate": ("palate.loop.gate.config", "GateFields", "palate loop gate"),
    "serve": ("palate.serving.settings", "ServeFields", "palate serve"),
    "campaign": ("palate.feedback.campaigns.schema", "CampaignSchema", "palate label create"),
}


@app.callback()
def _group() -> None:
    """A group although it has one command."""


@app.command("schema")
def schema_command(
    kind: Annotated[
        Kind, Argument(metavar="KIND", help="train (runs, pipelines, sweeps), loop, gate, serve or campaign.")
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE.json", help="File to write. Default: stdout.")
    ] = None,
) -> None:
    """Write the JSON schema of a kind of config file.

    Example: palate config schema train -o palate.schema.json
    """
    if output is None:
        print_json(schema(kind))
        return
    write_schema(kind, output)
    print_done(str(output), {"path": str(output), "kind": kind})


def write_schema(kind: Kind, path: Path) -> None:
    """Writes the schema of a kind of config file."""
    from palate.artifacts import write_text

    write_text(path, json.dumps(schema(kind), indent=1, ensure_ascii=False) + "\n")


def schema(kind: Kind) -> dict[str, Any]:
    """The JSON schema of a kind of config file."""
    from palate.config.schema import schema_of, train_schema

    if kind == "train":
        return train_schema()
    module, name, title = _CLASSES[kind]
    return schema_of(getattr(import_module(module), name), title)
