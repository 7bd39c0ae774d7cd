"""A task of EleutherAI's lm-evaluation-harness, run by the harness itself and compared by palate.

The harness runs as a program of its own, because its versions of other packages need not be ours. `PALATE_EVAL_PYTHON`
names the Python that has it; by default it is the one that runs palate.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from palate.artifacts import file_hash, file_name, json_hash
from palate.errors import DataError, EngineError, UsageError
from palate.evaluation.benchmarks.benchmark import BenchmarkFacts
from palate.evaluation.benchmarks.contestants import Contestant, contestants
from palate.evaluation.benchmarks.options import BenchmarkOptions, JudgeOptions
from palate.evaluation.benchmarks.results import BenchmarkResult, ModelResult, comparisons
from palate.evaluation.benchmarks.statistics import rates
from palate.evaluation.logs.items import ItemValues
from palate.evaluation.logs.lm_eval import SAMPLES, read_lm_eval
from palate.models.loading.resolve import resolve_name
from palate.models.precision import default_device, resolve
from palate.records import Dropped

PYTHON = "PALATE_EVAL_PYTHON"
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_LINES = 5
"""Last lines of the harness that an error shows."""


def run_harness(
    task: str, models: Sequence[str], options: BenchmarkOptions, *, on_progress: Callable[[str], None] = lambda _: None
) -> BenchmarkResult:
    """Let the harness measure models on one of its tasks, and compare them on the same items.

    A model whose log is in the output folder already, with the same weights and settings, is not measured again.

    Args:
        options: of palate's benchmarks; `data` names folders with tasks of the user's own.

    Raises:
        UsageError: the harness is not installed, an option is not for it, or a model has several adapters.
        EngineError: the harness fails; with its last lines.
        DataError: its log is damaged or has no numbers.
    """
    if options.output is None:
        raise UsageError("--harness keeps the harness's own logs; name a folder for them with --output")
    if options.judging != JudgeOptions() or options.prompt == "written" or options.max_new_tokens is not None:
        raise UsageError("--judge, --prompt written, --max-new-tokens and such are not for tasks of the harness")
    facts = BenchmarkFacts(task, f"{task} of lm-evaluation-harness", "2405.14782", ("policy",), (), {}, ())
    compared = contestants(
        models, facts, template=options.template, reference=options.reference, templates=options.prompt == "chat"
    )
    precision = resolve(options.precision, default_device())
    version = _version()
    logs: list[ItemValues] = []
    files: list[Mapping[str, str]] = []
    for number, one in enumerate(compared, 1):
        command = _command(task, one, options, _DTYPES[precision.name])
        asked = json_hash([version, command, _weights(one)])[:8]
        folder = options.output / f"harness-{task}" / f"{file_name(one.name)}-{asked}"
        if not list(folder.rglob(SAMPLES)):
            on_progress(f"{number} of {len(compared)}: {one.name}, with lm-evaluation-harness {version}")
            _run(one, [*command, "--output_path", str(folder)])
        log = _log(task, folder)
        logs.append(read_lm_eval(log))
        files.append({"name": f"{one.name}: {log.name}", "sha256": file_hash(log)})
    metrics = list(dict.fromkeys(metric for log in logs for metric in log.metrics))
    grades = [metric for metric in metrics if not all(_is_share(log.metrics.get(metric, {})) for log in logs)]
    measured = [_result(one, log, grades) for one, log in zip(compared, logs, strict=True)]
    items = max(len(model.scores) + len(model.left_out) for model in measured)
    result = BenchmarkResult(
        benchmark=facts.name,
        title=facts.title,
        paper=facts.paper,
        protocol=f"as version {version} of the harness defines the task",
        deviations=(),
        data=files,
        items=items,
        of=items,
        seed=options.seed,
        prompt_form=options.prompt or "plain",
        precision=precision.name,
        categories={},
        models=measured,
        comparisons=comparisons(measured, {}, metrics, grades=grades),
        metrics=dict.fromkeys(metrics, "as the harness defines it"),
        grades=grades,
    )
    result.write(options.output)
    return result


def _python() -> str:
    return os.environ.get(PYTHON) or sys.executable


def _version() -> str:
    command = [_python(), "-c", "from importlib.metadata import version; print(version('lm_eval'))"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - the user's
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"lm-evaluation-harness is not installed; `pip install lm_eval`, or name a Python that has it in {PYTHON}"
        ) from error


def _weights(one: Contestant) -> list[list[str | int]]:
    """Name, size and time of the files of a local model; empty for one of the hub."""
    assert one.spec is not None  # a policy
    files = (path for folder in (one.spec.model, *one.spec.adapters) for path in sorted(Path(folder).glob("*.*")))
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _command(task: str, one: Contestant, options: BenchmarkOptions, dtype: str) -> list[str]:
    assert one.spec is not None  # a policy
    if len(one.spec.adapters) > 1:
        raise UsageError(
            f"{one.source} has {len(one.spec.adapters)} adapters, and the harness takes one; name a merged model"
        )
    about = {"pretrained": resolve_name(one.spec.model), "dtype": dtype}
    if one.spec.adapters:
        about["peft"] = one.spec.adapters[0]
    if one.spec.revision:
        about["revision"] = one.spec.revision
    if options.cutoff_len is not None:
        about["max_length"] = str(options.cutoff_len)
    command = [_python(), "-m", "lm_eval", "--model", "hf", "--tasks", task, "--seed", str(options.seed)]
    command += ["--model_args", ",".join(f"{name}={value}" for name, value in about.items())]
    command += ["--device", default_device().type, "--log_samples"]
    for path in options.data:
        command += ["--include_path", str(path)]
    if options.max_samples is not None:
        command += ["--limit", str(options.max_samples)]
    if options.prompt == "chat":
        command += ["--apply_chat_template"]
    return command


def _run(one: Contestant, command: Sequence[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)  # noqa: S603 - the user's
    if done.returncode != 0:
        last = [line.strip() for line in done.stderr.splitlines() if line.strip()][-_LINES:]
        raise EngineError(f"{one.name}: lm-evaluation-harness stopped with code {done.returncode}: {' | '.join(last)}")


def _log(task: str, folder: Path) -> Path:
    found = sorted(folder.rglob(SAMPLES))
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:3]) or "none"
        raise DataError(f"{folder}: {len(found)} logs of {task} ({names}); name a single task, or an empty folder")
    return found[0]


def _is_share(values: Mapping[str, float | None]) -> bool:
    return all(value is None or 0 <= value <= 1 for value in values.values())


def _result(one: Contestant, log: ItemValues, grades: Sequence[str]) -> ModelResult:
    ids = list(dict.fromkeys(item for values in log.metrics.values() for item in values))
    by_item = {
        item: {metric: value for metric, values in log.metrics.items() if (value := values.get(item)) is not None}
        for item in ids
    }
    scores = {item: found for item, found in by_item.items() if found}
    left_out = [Dropped(item, "no_value", "the harness gives no number") for item in ids if item not in scores]
    if not scores:
        raise DataError(f"{one.name}: no item has a value")
    listed = rates(scores, {}, list(log.metrics), grades=grades)
    return ModelResult(one.name, one.kind, one.source, None, None, scores, {}, left_out, listed, log.notes)
