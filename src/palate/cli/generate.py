"""`palate generate`: K candidates for each prompt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Option

from palate.charts.text import by_endpoint
from palate.cli.arguments import BaseUrl, MaxNewTokens, PrecisionName, SamplingSeed, ShardName, TemplateName
from palate.cli.console import print_done, print_progress, print_result
from palate.cli.dataset import Prompts, read_prompts, reads_dataset
from palate.cli.models import model_path
from palate.evaluation.answers.answerer import load_answerer
from palate.records import DatasetRequest

Model = Annotated[str, Option("--model", "-m", help="A finished run, a model, or the engine's name for one.")]
K = Annotated[int, Option("--k", "-k", min=1, help="Answers per prompt.")]
Output = Annotated[
    Path | None,
    Option(
        "--output",
        "-o",
        metavar="FILE.jsonl",
        help="File to append to; continues after an interruption. Default: stdout.",
    ),
]
Temperature = Annotated[
    float, Option("--temperature", min=0, help="Sampling temperature; 0 takes the most likely token.")
]
TopP = Annotated[float, Option("--top-p", min=0, max=1, help="Nucleus (top-p) sampling.")]


@reads_dataset(Prompts, prompts_only=True)
def command(
    request: DatasetRequest,
    model: Model,
    k: K = 1,
    output: Output = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = 256,
    seed: SamplingSeed = 42,
    base_url: BaseUrl = None,
    shard: ShardName = None,
    template: TemplateName = None,
    precision: PrecisionName = "auto",
) -> None:
    """Sample K answers per prompt, from a model or an OpenAI-compatible engine; seeded and resumable.

    Example: palate generate prompts.jsonl -m runs/dpo -k 4 -o candidates.jsonl
    """
    from palate.artifacts import check_writable
    from palate.evaluation.answers.generate import check_sampling
    from palate.feedback.candidates import candidate_rows, endpoint_counts, write_candidates
    from palate.feedback.shards import read_shard
    from palate.models.generation.decoding import Decoding

    check_sampling(k, temperature, top_p, max_new_tokens)
    part = read_shard(shard)
    if output is not None:
        check_writable(output)
    asked, dropped = read_prompts(request)
    decoding = Decoding(max_new_tokens, temperature, top_p, seed)
    answerer = load_answerer(model if base_url else model_path(model), base_url, template=template, precision=precision)
    if output is None:
        for made in candidate_rows(asked, answerer, k, decoding, part):
            print_result(json.dumps(made, ensure_ascii=False))
        return
    new = write_candidates(asked, answerer, k, decoding, path=output, shard=part)
    answered = endpoint_counts(answerer)
    by_endpoint("answered", answered, print_progress)
    facts = {"prompts": len(asked if part is None else part.of(asked)), "made": new, "k": k, "dropped": len(dropped)}
    endpoints = {"endpoints": answered} if answered else {}
    print_done(str(output), {"path": str(output), **facts, **endpoints})
