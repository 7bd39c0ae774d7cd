"""Compares the answers of runs and their reference to the same prompts: saved samples or new answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from palate.charts.text import amount
from palate.data.prompts import left_out_line, load_prompts
from palate.evaluation.answers.table import SideBySide, distinct_names, read_answers, side_by_side
from palate.evaluation.subject import ModelSpec, RunSpec, Subject, check_models, read_run
from palate.models.cpu.allocator import give_back_memory
from palate.models.generation.decoding import Decoding
from palate.models.precision import default_device, resolve
from palate.records import DatasetRequest, DatasetSpec, Record


def compare(
    runs: Sequence[str | Path],
    prompts: DatasetSpec | DatasetRequest | None = None,
    *,
    max_new_tokens: int = 128,
    on_progress: Callable[[str], None] = lambda _: None,
) -> list[SideBySide]:
    """Answers of finished runs to the same prompts, next to the answers of the first run's reference.

    `compare(["runs/a", "runs/b"])[0].outputs["b"]`

    Args:
        prompts: a dataset of prompts to answer now; None for the samples saved during training.
        on_progress: receives a line before each model is loaded, and the number of rows without a prompt.

    Raises:
        ArtifactError: a directory is not a finished run, or has no samples.
    """
    names = distinct_names(runs)
    if prompts is None:
        return side_by_side({name: read_answers(run) for name, run in zip(names, runs, strict=True)})
    specs = {name: read_run(run) for name, run in zip(names, runs, strict=True)}
    return answer_prompts(specs, prompts, max_new_tokens=max_new_tokens, on_progress=on_progress)


def answer_prompts(
    runs: Mapping[str, RunSpec],
    prompts: DatasetSpec | DatasetRequest,
    *,
    max_new_tokens: int,
    on_progress: Callable[[str], None],
) -> list[SideBySide]:
    """Greedy answers of every run's policy and of the first run's reference, with one model in memory at a time.

    Args:
        on_progress: receives a line before each model is loaded, and the number of rows without a prompt.
    """
    records, dropped = load_prompts(prompts)
    if dropped:
        on_progress(left_out_line(dropped))
    first = next(iter(runs.values()))
    check_models((first.reference, *(run.policy for run in runs.values())))
    on_progress(f"answering {amount(len(records), 'prompt')} with the reference, {first.reference.model}")
    reference = _answers(first.reference, records, max_new_tokens)
    outputs: dict[str, list[str]] = {}
    for name, run in runs.items():
        on_progress(f"answering {amount(len(records), 'prompt')} with {name}")
        outputs[name] = _answers(run.policy, records, max_new_tokens)
    return [
        SideBySide(record.prompt, {name: texts[number] for name, texts in outputs.items()}, reference[number])
        for number, record in enumerate(records)
    ]


def _answers(spec: ModelSpec, prompts: Sequence[Record], max_new_tokens: int) -> list[str]:
    """Load a model, answer the prompts greedily, and free the model."""
    device = default_device()
    subject = Subject(spec, resolve("auto", device), device)
    decoding = Decoding(max_new_tokens=max_new_tokens)
    found = subject.answers([record.prompt for record in prompts], decoding, tools=[record.tools for record in prompts])
    del subject
    give_back_memory()
    return [answer.text for answer in found]
