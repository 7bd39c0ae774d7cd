"""`palate init`: a commented first config from a dataset and a model."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from palate.charts.text import amount
from palate.cli.arguments import TemplateName
from palate.cli.config import SCHEMA_FILE, write_schema
from palate.cli.console import print_done, print_note
from palate.cli.dataset import Datasets, Workers, reads_dataset
from palate.cli.models import model_path
from palate.errors import UsageError
from palate.records import DatasetRequest

_PROBLEMS = 3


@reads_dataset(Datasets, only=("column", "label", "dataset_dir"))
def command(
    request: DatasetRequest,
    model: Annotated[str, Option("--model", "-m", help="Model to train: a folder, run, version or hub id.")],
    output: Annotated[
        Path, Option("--output", "-o", metavar="FILE.yaml", help="Config to write; it must not exist.")
    ] = Path("run.yaml"),
    stage: Annotated[
        Literal["sft", "dpo", "kto", "rm", "ppo", "grpo"] | None,
        Option("--stage", help="sft, dpo, kto, rm, ppo or grpo. Default: by the kind of rows."),
    ] = None,
    reward: Annotated[
        str | None, Option("--reward", help="What scores sampled answers, for data with prompts only.")
    ] = None,
    memory: Annotated[
        float | None,
        Option("--memory", metavar="GB", min=0.1, help="Memory of the GPU that will train. Default: this machine."),
    ] = None,
    template: TemplateName = None,
    schema: Annotated[
        bool, Option("--schema", help=f"Also write {SCHEMA_FILE} beside it, by which editors check its keys.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Write a commented first config for a dataset and a model.

    Example: palate init pairs.jsonl --model smollm2-135m-instruct -o run.yaml
    """
    if output.exists():
        raise UsageError(f"{output} exists; name another file with --output")

    from palate.artifacts import check_writable, write_text
    from palate.capacity.shapes import read_shape
    from palate.data.inspect import inspect_dataset
    from palate.data.parallel import all_cores
    from palate.evaluation.subject import model_spec
    from palate.models.loading.resolve import resolve_name
    from palate.models.precision import total_memory
    from palate.training.first_config import as_yaml_text, first_config

    check_writable(output)
    dataset = list(request.dataset)
    if len(dataset) == 1:
        request = replace(request, dataset=dataset[0])
    spec = model_spec(model_path(model), template=template)
    rendering = spec.chat_template(spec.tokenizer())
    found = inspect_dataset(
        request,
        count_tokens=lambda texts: [len(encoding.ids) for encoding in rendering.tokenize(texts)],
        render=rendering.render,
        workers=workers or all_cores(),
    )
    size, gpu = total_memory() if memory is None else (memory * 1e9, True)
    shape = read_shape(resolve_name(spec.model), spec.revision)
    lines = first_config(request, found, spec, shape, memory=size, gpu=gpu, stage=stage, reward=reward)
    head = [
        f"Written by palate init for {', '.join(dataset)}.",
        f"Check it: palate plan {shlex.quote(str(output))}   Train: palate train {shlex.quote(str(output))}",
        "All keys: docs/config.md",
    ]
    if schema:
        write_schema("train", output.with_name(SCHEMA_FILE))
        head.insert(0, f"yaml-language-server: $schema={SCHEMA_FILE}")
    write_text(output, as_yaml_text(lines, head))
    for problem in found.problems[:_PROBLEMS]:
        print_note(f"{problem.title}: {amount(problem.count, 'row')} (palate data inspect lists them)")
    shown = {line.key: line for line in lines}
    said = [
        f"{key} {shown[key].value}: {shown[key].reason}"
        for key in ("stage", "finetuning_type", "cutoff_len", "num_train_epochs")
    ]
    print_done(
        "\n".join([*said, f"written: {output}", f"next: palate train {shlex.quote(str(output))}"]),
        {"config": str(output), "values": {line.key: line.value for line in lines}},
    )
