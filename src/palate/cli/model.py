"""`palate model`: work with model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import print_json, print_note, print_result
from palate.errors import UsageError

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _sub_verbs() -> None:
    """Work with model folders.

    Example: palate model convert old-model --output model
    """


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model or adapter folder with pickled weights.")],
    former: Annotated[Path | None, typer.Argument(metavar="OUT", hidden=True)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="The new folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a model with pickled weights (.bin, .pth, .pt, .ckpt) to safetensors, without running code from the pickles.

    Example: palate model convert old-model --output model
    """
    if former is not None:
        print_note(f"the new folder is named by --output now: palate model convert {folder} --output {former}")
    out = output or former
    if out is None or (output and former):
        raise UsageError("name one new folder: --output FOLDER")

    from palate.models.convert import convert as convert_folder

    done = convert_folder(folder, out)
    if as_json:
        print_json({"folder": str(done.folder), "files": list(done.files), "tensors": done.tensors, "bytes": done.size})
    else:
        print_result(f"{done.folder}: {done.tensors} tensors, {done.size / 1e6:.1f} MB, in {', '.join(done.files)}")
