"""`palate model`: versions of models, exports, and conversion of model folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from palate.cli.arguments import verb_group
from palate.cli.console import print_done
from palate.cli.model import aliases, export, versions

app = Typer(
    cls=verb_group("model"),
    help="Keep models as versions with aliases (production, candidate, previous), and export them.\n\n"
    "Example: palate model add runs/dpo",
    no_args_is_help=True,
)
app.command("add")(versions.add_command)
app.command("list")(versions.list_command)
app.command("show")(versions.show_command)
app.command("promote")(aliases.promote_command)
app.command("rollback")(aliases.rollback_command)
app.command("canary")(aliases.canary_command)
app.command("verify")(versions.verify_command)
app.command("probe")(versions.probe_command)
app.command("gc")(versions.gc_command)
app.command("export")(export.command)


@app.command("convert")
def convert(
    folder: Annotated[Path, Argument(metavar="FOLDER", help="A model or adapter folder with pickled weights.")],
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="The new folder.")],
) -> None:
    """Copy a model with pickled weights (.bin, .pth, .pt, .ckpt) to safetensors, without running code from the pickles.

    Example: palate model convert old-model --output model
    """
    from palate.models.loading.convert import convert as convert_folder

    done = convert_folder(folder, output)
    print_done(
        f"{done.folder}: {done.tensors} tensors, {done.size / 1e6:.1f} MB, in {', '.join(done.files)}",
        {"folder": str(done.folder), "files": list(done.files), "tensors": done.tensors, "bytes": done.size},
    )
