"""`palate model`: what can be done with model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import result, result_json

app = typer.Typer(help="Work with model folders.", no_args_is_help=True)


@app.callback()
def _sub_verbs() -> None:
    """Work with model folders."""


@app.command()
def convert(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A model or adapter folder with pickled weights.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The new folder.")],
    as_json: AsJson = False,
) -> None:
    """Copy a model whose weights are pickles (.bin, .pth, .pt, .ckpt) as safetensors, without running any of it."""
    from palate.models.convert import convert as convert_folder

    done = convert_folder(folder, out)
    if as_json:
        result_json(
            {"folder": str(done.folder), "files": list(done.files), "tensors": done.tensors, "bytes": done.size}
        )
    else:
        result(f"{done.folder}: {done.tensors} tensors, {done.size / 1e6:.1f} MB, in {', '.join(done.files)}")
