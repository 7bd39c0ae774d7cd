"""Answers to prompts from Python, as `palate generate` gives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate.data.prompts import left_out_line, load_prompts
from palate.errors import UsageError
from palate.evaluation.answers.answerer import load_answerer
from palate.feedback.candidates import (
    Candidates,
    candidate_rows,
    iter_candidates,
    read_candidate,
    write_candidates,
)
from palate.feedback.shards import read_shard
from palate.models.generation.decoding import Decoding
from palate.records import DatasetRequest, DatasetSpec


def generate(
    prompts: DatasetSpec | DatasetRequest,
    model: str | Path,
    k: int = 1,
    *,
    output: str | Path | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    seed: int = 42,
    shard: str | None = None,
    base_url: str | None = None,
    template: str | None = None,
    precision: str = "auto",
    on_progress: Callable[[str], None] = lambda _: None,
) -> list[Candidates]:
    """Sample k answers to each prompt of a dataset.

    `generate("prompts.jsonl", "runs/dpo", k=4)[0].completions[0].text`

    Args:
        model: a finished run, any model, or an engine's name for one.
        output: candidates file, to which missing answers are appended; None keeps none.
        temperature: 0 takes the likeliest token.
        shard: `3/8` for the third of eight parts of the prompts; `join_shards` joins the files. It needs `output`.
        base_url: of an OpenAI-compatible engine, up to /v1; several that serve the same model as `URL,URL=2`, with
            weights. By default the model runs in this process.
        template: name of a chat template, for a model that is not a run.
        on_progress: receives the number of rows without a prompt, which are left out.

    Raises:
        PalateError: the prompts or the model cannot be read, or the file has answers made with other settings.
    """
    check_sampling(k, temperature, top_p, max_new_tokens)
    part = read_shard(shard)
    if part is not None and output is None:
        raise UsageError("a shard is a file: name it with output")
    asked, dropped = load_prompts(prompts)
    if dropped:
        on_progress(left_out_line(dropped))
    answerer = load_answerer(str(model), base_url, template=template, precision=precision)
    decoding = Decoding(max_new_tokens, temperature, top_p, seed)
    if output is None:
        return [read_candidate(row, row["id"], row["id"]) for row in candidate_rows(asked, answerer, k, decoding)]
    write_candidates(asked, answerer, k, decoding, path=Path(output), shard=part)
    wanted = {record.id for record in (asked if part is None else part.of(asked))}
    return [row for row in iter_candidates(output) if row.id in wanted]


def check_sampling(k: int, temperature: float, top_p: float, max_new_tokens: int) -> None:
    """Raise UsageError if k answers to a prompt cannot be sampled in this way."""
    if k < 1 or max_new_tokens < 1 or not temperature >= 0:
        raise UsageError("k and max_new_tokens must be at least 1, and temperature at least 0")
    if k > 1 and temperature == 0:
        raise UsageError(f"k {k} with temperature 0 would give {k} equal answers; raise the temperature")
    if not 0 < top_p <= 1:
        raise UsageError(
            "top_p must be from 0 to 1, and 0 leaves no token to sample; temperature 0 takes the likeliest"
        )
