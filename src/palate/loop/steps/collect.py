"""COLLECT, SAMPLE and CANDIDATES: from recorded interactions, or a file of prompts, to K answers of each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from palate.artifacts import file_hash, read_jsonl
from palate.data.contract import write_contract
from palate.data.formats.writers import write_rows
from palate.data.held_out import HeldOut
from palate.data.prompts import load_prompts
from palate.errors import DataError
from palate.feedback.candidates import Candidates, iter_candidates, prompt_turns, read_candidates
from palate.loop.ledger import window_end
from palate.loop.work import Done, Inputs, Run, Waiting, Work
from palate.registry.evaluations import data_files
from palate.registry.lineage import register_export
from palate.store.serving_tables import Interaction

_LEARNT_FROM = (
    Interaction.state == "complete",
    Interaction.consent,
    Interaction.policy.in_(("redacted", "full")),
    ~Interaction.route.startswith("shadow:"),
)


def collect(work: Work) -> Run:
    """Waits until there are enough interactions since the last cycle, and closes their window."""
    settings = work.config.collect
    yield Inputs({"prompts": settings.prompts})
    if settings.prompts is not None or work.dry:
        return Done({"prompts": settings.prompts} if settings.prompts else {"since": None, "until": "UNTIL"})

    def read(session: Session) -> tuple[datetime | None, datetime | None, int]:
        since = window_end(session, work.config.name)
        newest = session.scalar(select(func.max(Interaction.created)))
        if newest is None:
            return since, None, 0
        # A clock that is ahead closes no window over interactions that are yet to come.
        until = min(work.now - timedelta(minutes=settings.settle_minutes), newest + timedelta(microseconds=1))
        within = [Interaction.created < until, *([Interaction.created >= since] if since else [])]
        count = session.scalar(select(func.count()).select_from(Interaction).where(*within, *_LEARNT_FROM)) or 0
        return since, until, count

    since, until, count = work.store.read(read)
    if until is None or count < settings.at_least:
        yield Waiting(
            f"{settings.at_least - count:,} more interactions with consent ({count:,} of {settings.at_least:,})",
            "traffic",
            next_act="serve with recording: palate serve --alias " + work.config.alias,
        )
    assert until is not None
    return Done({"since": since and since.isoformat(), "until": until.isoformat(), "usable": count})


def sample(work: Work) -> Run:
    """Draws the prompts to annotate, each with the probability that it is drawn; none of the evaluation."""
    found, settings, folder = work.figures.get("collect", {}), work.config.collect, work.path("sample")
    options = {"seed": work.config.seed, "options": work.config.more_options("from-interactions")}
    prompts = [Path(settings.prompts)] if settings.prompts is not None else []
    yield Inputs({"collected": found, "sample": settings.sample, **options}, [*held_out(work), *prompts])
    if settings.prompts is not None:
        if work.dry:
            return Done()
        return _draw(work, settings.prompts, folder)
    window = [f"--{name}={found[name]}" for name in ("since", "until") if found.get(name)]
    excluded = [word for path in held_out(work) for word in ("--exclude", path)]
    words = ("data", "from-interactions", "-o", folder, *window, "--sample", settings.sample)
    yield work.command(*words, "--seed", work.config.seed, *excluded, option="from-interactions")
    if work.dry:
        return Done()
    files = sorted(folder.glob("*.jsonl"))
    if not (folder / "candidates.jsonl").is_file():
        reason = "none of the collected interactions can be annotated"
        return Done({"ended": reason}, files, ends=("abandoned", reason))
    rows = {path.stem: len(read_jsonl(path)) for path in files}
    return Done(rows, files)


def held_out(work: Work) -> list[Path]:
    """The files of evaluation data, which no cycle trains on."""
    prompts = [Path(name) for name in (work.gate.prompts, work.config.evaluate.must_pass) if name is not None]
    data = data_files(work.config.evaluate.benchmarks.values(), Path())
    return [*prompts, *(path for path in data if path.is_file())]


def _draw(work: Work, prompts: str, folder: Path) -> Done:
    """A simple random sample of a file's prompts, the same for the same seed and cycle."""
    records, dropped = load_prompts(prompts)
    evaluation = HeldOut(held_out(work))
    kept = [record for record in records if not evaluation.has(record.prompt)]
    if not kept:
        raise DataError(f"{prompts}: every prompt is one of the evaluation's; name others in collect")
    size = min(work.config.collect.sample, len(kept))
    rng = random.Random(f"{work.config.seed} {work.title}")  # noqa: S311 - a sample that can be drawn again
    rows: list[dict[str, Any]] = [
        {
            "id": kept[at].id,
            "prompt": prompt_turns(kept[at].prompt),
            **({"tools": kept[at].tools} if kept[at].tools else {}),
            "inclusion_probability": size / len(kept),
        }
        for at in sorted(rng.sample(range(len(kept)), size))
    ]
    write_rows(folder / "prompts.jsonl", rows)
    counts = {"prompts": size, "of": len(kept), "held_out": len(records) - len(kept), "unusable": len(dropped)}
    return Done(counts, [folder / "prompts.jsonl"])


def candidates(work: Work) -> Run:
    """Answers of the incumbent, so that each prompt has K; the answer that was served is one of them."""
    settings, folder = work.config.candidates, work.path("candidates")
    facts = {"candidates": settings.resolved(), "incumbent": work.incumbent_hash, "seed": work.config.seed}
    options = work.config.more_options("generate")
    yield Inputs({**facts, "options": options}, sorted(work.path("sample").glob("*.jsonl")))
    served = work.path("sample", "candidates.jsonl") if work.config.collect.prompts is None else None
    asked, k, path = work.path("sample", "prompts.jsonl"), settings.k, folder / "candidates.jsonl"
    made = path
    if served is not None:
        asked, k, made = served, k - 1, folder / "new.jsonl"
    words = ("generate", asked, "--model", work.incumbent, "--k", k, "--output", made)
    decoding = ("--temperature", settings.temperature, "--top-p", settings.top_p)
    limits = ("--max-new-tokens", settings.max_new_tokens, "--seed", work.config.seed)
    yield work.command(*words, *decoding, *limits, option="generate")
    if work.dry:
        return Done()
    if served is not None:
        write_rows(path, [row.to_json() for row in _with_served(served, made, settings.k)])
        keep_track(work, folder, {"rows": path, "new": made})
    return Done({"prompts": len(read_jsonl(path)), "answers": settings.k}, [path])


def _with_served(served: Path, new: Path, k: int) -> Iterator[Candidates]:
    """The rows of `served` with K answers each: their own, then those of `new`."""
    more = {str(row.columns["id"]): row for row in read_candidates(new)}
    for row in iter_candidates(served):
        rest = more[row.id]
        origins = [
            *(row.origin(at) for at in range(len(row.completions))),
            *(rest.origin(at) for at in range(len(rest.completions))),
        ]
        yield replace(row, completions=(*row.completions, *rest.completions)[:k]).with_origins(origins[:k])


def keep_track(work: Work, folder: Path, files: dict[str, Path]) -> None:
    """List files with texts of people in the folder's data.json, and the folder in the store, for deletions."""
    write_contract(folder / "data.json", how="loop", files=files, counts={}, sources=(), options={})
    register(work, folder, files)


def register(work: Work, folder: Path, files: dict[str, Path]) -> None:
    """Note in the store that a folder, whose data.json lists the files, has texts of people."""
    hashes = [file_hash(path) for path in files.values()]
    work.store.write(lambda session: register_export(session, str(folder), hashes))
