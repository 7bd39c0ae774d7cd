"""Answers and votes from Python, as `palate generate` and `palate judge` make them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate.charts.text import amount
from palate.data.prompts import load_prompts
from palate.errors import EngineError
from palate.evaluation.answers.answerer import load_answerer
from palate.feedback.candidates import read_candidates, write_candidates
from palate.feedback.judges.load import load_judge
from palate.feedback.judges.settings import ApiSettings
from palate.feedback.judging import collect_votes, questions
from palate.feedback.shards import read_shard
from palate.models.generation.decoding import Decoding
from palate.records import DatasetRequest, DatasetSpec


def generate(
    dataset: DatasetSpec | DatasetRequest,
    model: str,
    output: str | Path,
    *,
    k: int = 1,
    base_url: str | None = None,
    shard: str | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    seed: int = 42,
    template: str | None = None,
    precision: str = "auto",
    on_progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Sample K answers to every prompt into a file, and continue an interrupted one; returns the number of new rows.

    `generate("prompts.jsonl", "runs/dpo", "candidates.jsonl", k=4)`

    Args:
        model: a finished run, any model, or the engine's name for one.
        base_url: of an OpenAI-compatible engine, up to /v1; several that serve the same model as `URL,URL=2`.
        shard: `3/8` for the third of eight parts; `join_shards` joins the files.
        on_progress: receives the number of rows without a prompt.

    Raises:
        ArtifactError: the file has answers made with other settings.
        PalateError: the dataset, model or engine cannot be used.
    """
    part = read_shard(shard)
    prompts, dropped = load_prompts(dataset)
    if dropped:
        on_progress(f"{amount(len(dropped), 'row')} without a prompt, first {dropped[0].id}")
    answerer = load_answerer(model, base_url, template=template, precision=precision)
    decoding = Decoding(max_new_tokens, temperature, top_p, seed)
    return write_candidates(prompts, answerer, k, decoding, path=Path(output), shard=part)


def judge(
    candidates: str | Path,
    judge: str,
    output: str | Path,
    *,
    shard: str | None = None,
    per_prompt: int | None = None,
    seed: int = 42,
    prompt: str = "criteria",
    in_flight: int = 8,
    store: str | None = None,
) -> int:
    """Let a judge compare the answers to each prompt, two at a time and in both orders; returns the number of votes.

    `judge("candidates.jsonl", "openai:qwen3-8b@http://127.0.0.1:8000/v1", "votes.jsonl")`

    Args:
        candidates: a file of `generate`, or one of its shards.
        judge: as `palate judge --judge`.
        output: file of votes; those that it has already are not asked for again.
        shard: `3/8` for every eighth row from the third.
        per_prompt: largest number of pairs of answers to each prompt.
        prompt: of a judge over an API: the name of a built-in one, or a file.
        in_flight: most requests of such a judge at once, for each of its URLs.
        store: URL of the database with its replies; None for PALATE_STORE or palate.db in the current folder.

    Raises:
        EngineError: verdicts are missing; the next call asks for those only.
        PalateError: the candidates or the judge cannot be used.
    """
    part = read_shard(shard)
    rows = read_candidates(candidates)
    asked = questions(rows if part is None else part.of(rows), per_prompt=per_prompt, seed=seed)
    settings = ApiSettings(prompt=prompt, in_flight=in_flight, store=store)
    collected = collect_votes(asked, load_judge(judge, key="judge", settings=settings), Path(output))
    if collected.missing:
        raise EngineError(
            f"{output}: {len(collected.missing)} of {collected.asked} verdicts are missing "
            f"({collected.missing[0][1]}); run again, what was answered is kept"
        )
    return len(collected.votes)
