"""`palate generate`: K candidates for each prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.arguments import AsJson
from palate.cli.console import note, note_unread, result, result_json
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.feedback.candidates import Answerer

Prompts = Annotated[str, typer.Argument(metavar="PROMPTS", help="A file, folder, hub id or registered dataset.")]
Model = Annotated[str, typer.Option("--model", "-m", help="A finished run, a model, or the engine's name for one.")]
K = Annotated[int, typer.Option("--k", "-k", min=1, help="Answers to each prompt.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE.jsonl",
        help="File to append to; continues after an interruption. Default: stdout.",
    ),
]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0, help="Sampling temperature; 0 takes the most likely token.")
]
TopP = Annotated[float, typer.Option("--top-p", min=0, max=1, help="Nucleus (top-p) sampling.")]
Tokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed; an answer depends only on it and on its own prompt.")]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="OpenAI-compatible engine, up to /v1; without it, in this process.")
]
DatasetDir = Annotated[str | None, typer.Option("--dataset-dir", help="Folder whose dataset_info.json names datasets.")]
MaxSamples = Annotated[int | None, typer.Option("--max-samples", min=1, help="Use only the first prompts.")]
TemplateName = Annotated[str | None, typer.Option("--template", help="Chat template by name, for a bare model.")]
PrecisionName = Annotated[str, typer.Option("--precision", help="auto, bf16, fp16 or fp32.")]


def command(
    prompts: Prompts,
    model: Model,
    k: K = 1,
    output: Output = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_new_tokens: Tokens = 256,
    seed: Seed = 42,
    base_url: BaseUrl = None,
    dataset_dir: DatasetDir = "data",
    max_samples: MaxSamples = None,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
    as_json: AsJson = False,
) -> None:
    """Sample K answers to each prompt, in process or from an OpenAI-compatible engine; seeded and resumable."""
    if k > 1 and temperature == 0:
        raise UsageError(f"--k {k} with --temperature 0 would give {k} equal answers; raise the temperature")
    if top_p == 0:
        raise UsageError("--top-p 0 leaves no token to sample; use --temperature 0 for the likeliest one")

    from palate.data.prompts import load_prompts, unread_columns
    from palate.feedback.candidates import candidate_rows, write_candidates
    from palate.models.generation.generate import Decoding

    asked, dropped = load_prompts(prompts, dataset_dir=dataset_dir, max_samples=max_samples)
    note_unread(unread_columns(asked))
    for row in dropped[:3]:
        note(f"{row.id}: {row.reason} ({row.detail})")
    if len(dropped) > 3:
        note(f"{len(dropped)} rows in all have no prompt")
    decoding = Decoding(max_new_tokens, temperature, top_p, seed)
    answerer = _answerer(model, base_url, template, precision)
    if output is None:
        for rows in candidate_rows(asked, answerer, k, decoding):
            for made in rows:
                result(json.dumps(made, ensure_ascii=False))
        return
    new = write_candidates(asked, answerer, k, decoding, path=output)
    if as_json:
        result_json({"path": str(output), "prompts": len(asked), "made": new, "k": k, "dropped": len(dropped)})
    else:
        result(str(output))


def _answerer(model: str, base_url: str | None, template: str | None, precision: str) -> Answerer:
    if base_url is not None:
        from palate.models.generation.engine import Engine

        return Engine(base_url, model)

    from palate.evaluation.subject import Subject, model_spec
    from palate.models.precision import default_device, resolve

    device = default_device()
    return Subject(model_spec(model, template=template), resolve(precision, device), device)
