"""Exports a model, scores held-out pairs with the export, and keeps or uploads it only if it is the same model."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palate.artifacts import check_writable, temporary_path
from palate.artifacts.files import sync_folder
from palate.errors import ArtifactError, ModelError
from palate.evaluation.accuracy.evaluate import CUTOFF_LEN
from palate.evaluation.accuracy.rewards import is_reward_model
from palate.evaluation.export.check import BOUNDS, ExportCheck, check_export
from palate.evaluation.subject import ModelSpec, find_run, model_spec
from palate.models.export.gguf import check_converter, export_gguf
from palate.models.export.hub import prepare_repository, upload
from palate.models.export.merged import export_adapter, export_merged, stored_dtype
from palate.models.loading.spec import adapter_spec
from palate.records import PreferencePair


@dataclass(frozen=True, slots=True)
class ModelExportOptions:
    """What is exported, and where to.

    Attributes:
        form: `merged`, `adapter` or `gguf`.
        output: the new folder, or for `gguf` the file; None if it is only uploaded.
        dtype: bf16, fp16 or fp32; None for that of the stored weights, or fp32 if rounding to it changes the model by
            more than the bound. An adapter keeps its own.
        llama_cpp: checkout with the converter, for `gguf`.
        hub: repository to upload to.
        private: of `prepare_repository`.
        bound: of `ExportCheck`; None for that of the dtype.
        cutoff_len: longest pair, in tokens; None for the run's.
        template: chat template by name, for models that are not runs.
    """

    form: Literal["merged", "adapter", "gguf"]
    output: Path | None
    dtype: str | None = None
    llama_cpp: Path | None = None
    hub: str | None = None
    private: bool = True
    bound: float | None = None
    cutoff_len: int | None = None
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported.

    Attributes:
        output: the folder or file; None if it was only uploaded.
        dtype: of the weights; None for an adapter.
        url: address of the upload's commit.
        check: the comparison with the original; None without one. Of `gguf`, of the merged model that is converted.
        notices: what a user should know about the export.
    """

    output: Path | None
    dtype: str | None
    url: str | None
    check: ExportCheck | None
    notices: tuple[str, ...]


def export_model(
    name: str,
    options: ModelExportOptions,
    pairs: list[PreferencePair] | None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Export a model, and compare the export with it on the pairs before it gets its name or is uploaded.

    Args:
        name: run, checkpoint, folder or hub id.
        pairs: held-out pairs; None to write the export without comparing.

    Raises:
        ArtifactError: the output exists.
        ModelError: the model has no such form, or its export differs from it by more than rounding.
        EngineError: the hub refuses the upload.
    """
    if options.output is not None and options.output.exists():
        raise ArtifactError(f"{options.output}: exists already; choose another name")
    if options.output is not None:
        check_writable(options.output)
    spec = model_spec(name, template=options.template)
    if options.llama_cpp is not None:
        check_converter(options.llama_cpp)
    if options.hub is not None:
        prepare_repository(options.hub, private=options.private)
    stored = None if options.form == "adapter" else stored_dtype(spec)  # refuses quantised weights
    dtype = options.dtype or stored
    cutoff_len = options.cutoff_len or int(_config(name).get("cutoff_len", CUTOFF_LEN))
    notices = list(_notices(name, spec, options))
    on_progress(f"writing {spec.name}{f' in {dtype}' if dtype else ''}")
    with _work_folder(options.output) as work:
        check = _write(spec, work, pairs, options, dtype, cutoff_len)
        by_rounding = check is not None and check.problems and not check.other_tokens
        if check is not None and by_rounding and options.dtype is None and dtype in ("bf16", "fp16"):
            # Half a unit of bf16 is 0.2 % of a weight: what a short LoRA run adds to it may be less.
            notices.append(
                f"rounding to {dtype}, that of the base's files, changes the model ({check.problems[-1]}); "
                "written in fp32, which keeps every weight"
            )
            shutil.rmtree(work)
            dtype = "fp32"
            on_progress(f"writing {spec.name} in {dtype}")
            check = _write(spec, work, pairs, options, dtype, cutoff_len)
        if check is not None and check.problems:
            remedy = "; --dtype fp32 keeps every weight" if dtype in ("bf16", "fp16") else ""
            problems = "; ".join(check.problems)
            raise ModelError(f"{name}: the export differs from the model and is not kept: {problems}{remedy}")
        if options.hub is not None:
            on_progress(f"uploading to {options.hub}")
        url = None if options.hub is None else upload(work, options.hub, private=options.private)
        if options.output is not None and options.llama_cpp is not None:
            on_progress(f"converting to {options.output}")
            export_gguf(work, options.llama_cpp, options.output, dtype=str(dtype))
        elif options.output is not None:
            work.rename(options.output)
            sync_folder(options.output.parent)
    return Exported(options.output, dtype, url, check, tuple(notices))


@contextlib.contextmanager
def _work_folder(output: Path | None) -> Iterator[Path]:
    """A path beside the output for a folder, which is deleted unless it was renamed."""
    with contextlib.ExitStack() as stack:
        near = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model" if output is None else output
        work = temporary_path(near)
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        yield work


def _write(
    spec: ModelSpec,
    work: Path,
    pairs: list[PreferencePair] | None,
    options: ModelExportOptions,
    dtype: str | None,
    cutoff_len: int,
) -> ExportCheck | None:
    """Write the export, and compare it with the original; None without pairs."""
    if dtype is None:
        export_adapter(spec, work)
    else:
        export_merged(spec, work, dtype=dtype, head="reward" if is_reward_model(spec) else "lm")
    if pairs is None:
        return None
    after = ModelSpec("export", str(work), enable_thinking=spec.enable_thinking) if dtype else adapter_spec(work)
    bound = options.bound if options.bound is not None else BOUNDS[dtype or "fp32"]
    return check_export(spec, after, pairs, cutoff_len=cutoff_len, bound=bound)


def _config(name: str) -> dict[str, Any]:
    """The config of a run or of a checkpoint's run; {} for other models."""
    run = find_run(name)
    return {} if run is None else run.config


def _notices(name: str, spec: ModelSpec, options: ModelExportOptions) -> Iterator[str]:
    bits = _config(name).get("quantization_bit")
    if bits and options.form != "adapter":
        yield (
            f"the adapter was trained on a base in {bits} bits and is merged into the base's full weights, so the "
            "result differs from the model that was trained by the rounding of the base"
        )
    if options.form == "adapter" and Path(spec.model).is_dir():
        yield f"the adapter names the folder {spec.model} as its base; on another machine, name the base there"
    if options.form == "gguf":
        yield "the comparison is of the merged weights that the converter read; the GGUF file itself is not scored"
