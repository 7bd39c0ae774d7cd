"""`palate model export`: merged weights, adapters, GGUF files and uploads, compared with the original."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from palate.cli.arguments import StoreUrl, TemplateName, opened_store
from palate.cli.console import print_done, print_note, print_progress
from palate.cli.dataset import MaxDropped, reads_dataset
from palate.cli.models import model_path
from palate.errors import UsageError
from palate.records import DatasetRequest

if TYPE_CHECKING:
    from palate.evaluation.export.model import Exported

_PAIRS = 256


@reads_dataset(
    Annotated[
        str | None, Option("--dataset", "--data", help="Pairs to compare on. Default: the run's own held-out pairs.")
    ],
    optional=True,
)
def command(
    model: Annotated[str, Argument(metavar="MODEL", help="Version, alias, run, checkpoint, folder or hub id.")],
    request: DatasetRequest,
    merged: Annotated[bool, Option("--merged", help="The whole model, adapters merged, in one dtype.")] = False,
    adapter: Annotated[bool, Option("--adapter", help="Only the LoRA adapter, with the name of its base.")] = False,
    gguf: Annotated[
        Path | None, Option("--gguf", metavar="LLAMA_CPP_FOLDER", help="A GGUF file, by this checkout of llama.cpp.")
    ] = None,
    hub: Annotated[
        str | None, Option("--hub", metavar="OWNER/NAME", help="Upload to this repository (private if it is new).")
    ] = None,
    mlflow: Annotated[
        str | None,
        Option("--mlflow", metavar="URI|FOLDER", help="Log a version with its lineage and accuracy in MLflow."),
    ] = None,
    mlflow_name: Annotated[
        str, Option("--mlflow-name", help="Of the experiment and of the registered model.")
    ] = "palate",
    files: Annotated[bool, Option("--files/--no-files", help="With --mlflow: copy the files too.")] = True,
    public: Annotated[bool, Option("--public", help="With --hub: allow or create a public repository.")] = False,
    dtype: Annotated[
        Literal["bf16", "fp16", "fp32"] | None,
        Option("--dtype", help="Of the merged weights. Default: that of the base's files."),
    ] = None,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="PATH", help="New folder, or the .gguf file.")
    ] = None,
    check: Annotated[bool, Option("--check/--no-check", help="Compare the export on held-out pairs.")] = True,
    max_difference: Annotated[
        float | None,
        Option(
            "--max-difference",
            min=0,
            help="Largest difference of an answer's log-probability, nats per token. Default: by dtype.",
        ),
    ] = None,
    cutoff_len: Annotated[
        int | None, Option("--cutoff-len", min=2, help="Longest pair, in tokens. Default: the run's, or 2048.")
    ] = None,
    template: TemplateName = None,
    max_dropped: MaxDropped = 0.5,
    store: StoreUrl = None,
) -> None:
    """Write a model for other programs, and compare it on held-out pairs with the original before it is kept.

    Example: palate model export runs/lora --merged --dtype bf16 --output exported
    """
    if mlflow is not None:
        if merged or adapter or gguf or hub or output:
            raise UsageError("--mlflow logs a version as it is: no other form and no --output with it")
        _log_in_mlflow(model, mlflow, mlflow_name, files, store)
        return
    form: Literal["merged", "adapter", "gguf"] = "gguf" if gguf else "adapter" if adapter else "merged"
    if merged + adapter + bool(gguf) > 1 or not (merged or adapter or gguf or hub):
        raise UsageError("name one form: --merged, --adapter or --gguf LLAMA_CPP_FOLDER; --hub alone uploads it merged")
    if output is None and hub is None:
        raise UsageError("name the new folder: --output FOLDER")
    if gguf is not None and (hub is not None or output is None or output.suffix != ".gguf"):
        raise UsageError("--gguf writes a file and uploads nothing: --output MODEL.gguf, without --hub")
    if adapter and dtype is not None:
        raise UsageError("--dtype is of merged weights; an adapter keeps its own")

    from palate.evaluation.accuracy.evaluate import pairs_to_score
    from palate.evaluation.export.model import ModelExportOptions, export_model
    from palate.evaluation.subject import find_run

    name = model_path(model, store)
    pairs = None
    if check:
        run = find_run(name)
        if run is None and not request.dataset:
            raise UsageError(
                f"{model} is no run or checkpoint here, and has no held-out pairs to compare on: name some with "
                "--dataset, or --no-check"
            )
        dataset = replace(request, max_dropped=max_dropped) if request.dataset else None
        pairs = pairs_to_score(run, dataset, request.max_samples or _PAIRS, print_progress)
    options = ModelExportOptions(
        form,
        output,
        dtype=dtype,
        llama_cpp=gguf,
        hub=hub,
        private=not public,
        bound=max_difference,
        cutoff_len=cutoff_len,
        template=template,
    )
    done = export_model(name, options, pairs, on_progress=print_progress)
    for line in done.notices:
        print_note(line)
    print_done("\n".join(_lines(form, done)), _as_json(form, done))


def _log_in_mlflow(name: str, target: str, experiment: str, files: bool, store: str | None) -> None:
    from palate.registry import resolve
    from palate.registry.mlflow import log_version

    with opened_store(store) as registry:
        version = resolve(registry, name)
    done = log_version(version, target, name=experiment, files=files)
    there = "" if done.new else " (there already; its tags are up to date)"
    print_done(
        f"{version.name}: model {done.name}, version {done.number}, run {done.run_id}{there}",
        {"version": version.name, **asdict(done)},
    )


def _as_json(form: str, done: Exported) -> dict[str, Any]:
    facts = {"form": form, "output": done.output, "dtype": done.dtype, "url": done.url, "notices": done.notices}
    check = done.check
    if check is None:
        return {**facts, "check": None}
    compared = {
        "pairs": check.pairs,
        "accuracy_before": check.accuracy_before,
        "accuracy_after": check.accuracy_after,
        "accuracy_difference": check.difference,
        "largest_logp_difference": check.largest,
        "bound": check.bound,
    }
    return {**facts, "check": compared}


def _lines(form: str, done: Exported) -> list[str]:
    lines = [f"{done.output}: {form}{f' in {done.dtype}' if done.dtype else ''}"] if done.output else []
    lines += [f"uploaded: {done.url}"] if done.url else []
    return [*lines, "not compared with the original" if done.check is None else done.check.line()]
