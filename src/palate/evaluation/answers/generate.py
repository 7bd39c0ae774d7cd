"""Answers to prompts from Python, as `palate generate` gives them."""

from __future__ import annotations

from pathlib import Path

from palate.data.prompts import load_prompts
from palate.evaluation.answers.answerer import load_answerer
from palate.feedback.candidates import (
    Candidates,
    candidate_rows,
    iter_candidates,
    read_candidate,
    write_candidates,
)
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
    base_url: str | None = None,
    template: str | None = None,
    precision: str = "auto",
) -> list[Candidates]:
    """Sample k answers to each prompt of a dataset.

    `generate("prompts.jsonl", "runs/dpo", k=4)[0].completions[0].text`

    Args:
        model: a finished run, any model, or an engine's name for one.
        output: candidates file, to which missing answers are appended; None keeps none.
        temperature: 0 takes the likeliest token.
        base_url: of an OpenAI-compatible engine, up to /v1; by default the model runs in this process.
        template: name of a chat template, for a model that is not a run.

    Raises:
        PalateError: the prompts or the model cannot be read, or the file has answers made with other settings.
    """
    asked, _ = load_prompts(prompts)
    answerer = load_answerer(str(model), base_url, template=template, precision=precision)
    decoding = Decoding(max_new_tokens, temperature, top_p, seed)
    if output is None:
        rows = (row for some in candidate_rows(asked, answerer, k, decoding) for row in some)
        return [read_candidate(row, row["id"], row["id"]) for row in rows]
    write_candidates(asked, answerer, k, decoding, path=Path(output))
    wanted = {record.id for record in asked}
    return [row for row in iter_candidates(output) if row.id in wanted]
