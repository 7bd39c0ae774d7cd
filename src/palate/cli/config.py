"""`palate config`: JSON schemas of config files, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from palate.cli.arguments import AsJson, verb_group
from palate.cli.console import print_done, print_json

SCHEMA_FILE = "palate.schema.json"
"""Beside a config that `palate init --schema` writes."""

app = typer.Typer(
    cls=verb_group("config"),
    help="JSON schemas of config files, by which editors complete and check keys.\n\n"
    "Example: palate config schema train -o palate.schema.json",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Kind: TypeAlias = Literal["train", "loop", "gate", "serve", "campaign"]


@app.callback()
def _group() -> None:
    """A group although it has one command."""


@app.command("schema")
def schema_command(
    kind: Annotated[
        Kind, typer.Argument(metavar="KIND", help="train (runs, pipelines, sweeps), loop, gate, serve or campaign.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.json", help="File to write. Default: stdout.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the JSON schema of a kind of config file.

    Example: palate config schema train -o palate.schema.json
    """
    if output is None:
        print_json(schema(kind))
        return
    write_schema(kind, output)
    print_done(str(output), {"path": str(output), "kind": kind}, as_json=as_json)


def write_schema(kind: Kind, path: Path) -> None:
    """Writes the schema of a kind of config file."""
    from palate.artifacts import write_text

    write_text(path, json.dumps(schema(kind), indent=1, ensure_ascii=False) + "\n")


def schema(kind: Kind) -> dict[str, Any]:
    """The JSON schema of a kind of config file."""
    from palate.config.schema import schema_of, train_schema

    if kind == "train":
        return train_schema()
    if kind == "loop":
        from palate.loop.config import LoopFields

        return schema_of(LoopFields, "palate loop")
    if kind == "gate":
        from palate.loop.gate_config import GateFields

        return schema_of(GateFields, "palate loop gate")
    if kind == "serve":
        from palate.serving.settings import ServeFields

        return schema_of(ServeFields, "palate serve")
    from palate.feedback.campaigns.schema import CampaignSchema

    return schema_of(CampaignSchema, "palate label create")
