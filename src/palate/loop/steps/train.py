"""TRAIN, EVALUATE and GATE: the candidate, the evidence about it, and the verdict."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from palate.artifacts import read_json
from palate.evaluation.logs.items import number_or_none
from palate.loop.config import PEOPLE
from palate.loop.gate.config import GateFields
from palate.loop.steps.annotate import invite, wait_for_people
from palate.loop.steps.collect import held_out
from palate.loop.train_config import assignments, is_completed, model_folder, overrides
from palate.loop.work import GATE, Done, Inputs, Run, Work
from palate.registry import find, resolve
from palate.registry.canary import AUTOMATON
from palate.registry.contents import content_hash, read_contents
from palate.registry.verdicts import record_verdict
from palate.store.loop_tables import Cycle
from palate.store.registry_tables import ModelVersion

_NO_CANDIDATE = "CANDIDATE"
"""Stands for the candidate in a plan."""
_VERDICTS = (0, 1, 3)
"""Exit codes of `palate loop gate`; with 1 there may also be no verdict."""


def train(work: Work) -> Run:
    """Trains from the incumbent, which is also the reference, on the cycle's pairs."""
    config, output = work.train_config, work.path("train")
    facts = {"incumbent": work.incumbent_hash, "options": work.config.more_options("train")}
    yield Inputs(facts, [config, *_datasets(work)])
    datasets = _datasets(work) or [work.path("pairs", "mix", "train.jsonl")]
    incumbent = (find if work.dry else resolve)(work.store, work.incumbent)
    values = overrides(incumbent, datasets, output)
    model = model_folder(config, values)
    if work.dry or not is_completed(model):
        words = [word for change in assignments(values) for word in ("--set", change)]
        yield work.command("train", config, *words, option="train")
    if work.dry:
        return Done()
    contents = read_contents(model)
    return Done({"model": str(model), "content_hash": content_hash(contents.facts())}, [model / "run.json"])


def _datasets(work: Work) -> list[Path]:
    return sorted(work.path("pairs", "mix").glob("*.jsonl"), reverse=True)  # train.jsonl, thumbs.jsonl


def evaluate(work: Work) -> Run:
    """Makes the candidate a version, and measures it against the incumbent as the gate asks."""
    gate, settings, trained = work.gate, work.config.evaluate, work.figures.get("train", {})
    facts = {"candidate": trained.get("content_hash"), "incumbent": work.incumbent_hash, "gate": gate.resolved()}
    yield Inputs({**facts, "evaluate": settings.resolved(), "options": dict(work.config.options)}, held_out(work))
    model = trained.get("model", work.path("train"))
    yield work.command("model", "add", model, "--who", AUTOMATON, "--note", work.title)
    candidate = _candidate(work)
    words = ("model", "promote", candidate, "--alias", "candidate", "--who", AUTOMATON)
    yield work.command(*words, "--reason", f"evaluated by {work.title}")
    folder, judge = work.path("evaluate", "winrate"), work.config.judge_of(gate.judge)
    asked = ("eval", "winrate", candidate, work.incumbent, "--prompts", gate.prompts, "--judge", judge)
    winrate = (*asked, "--output", folder, *_decoding(gate))
    if judge == PEOPLE:
        campaign = f"{work.campaign}-evaluation"
        yield work.command(*winrate, option="winrate")
        yield from invite(work, campaign, folder / "candidates.jsonl", settings.people)
        yield from wait_for_people(work, campaign, settings.people)
        winrate = (*winrate, "--campaign", campaign)
    yield work.command(*winrate, option="winrate", enough=lambda: _is_judged(folder / "winrate.json", gate))
    for name, data in settings.benchmarks.items():
        files = [data] if isinstance(data, str) else data or []
        named = [word for file in files for word in ("--data", file)]
        measured = ("eval", "bench", name, work.incumbent, candidate, *named)
        yield work.command(*measured, "--output", work.path("evaluate", "bench"), option=f"bench {name}")
    if settings.must_pass is not None:
        checked = ("eval", "must-pass", candidate, "--prompts", settings.must_pass)
        yield work.command(*checked, "--output", work.path("evaluate", "must-pass.json"), option="must-pass")
    return Done({"candidate": candidate}, _results(work))


def _candidate(work: Work) -> str:
    """The version that has the files of the trained model; it is the cycle's candidate from now on."""
    if work.dry:
        return work.candidate or _NO_CANDIDATE
    digest = work.figures["train"]["content_hash"]

    def write(session: Session) -> str:
        row = session.scalars(select(ModelVersion).where(ModelVersion.content_hash == digest)).one()
        values = {"candidate": row.name, "candidate_hash": digest}
        session.execute(update(Cycle).where(Cycle.id == work.id).values(**values))
        return row.name

    return work.store.write(write)


def _decoding(gate: GateFields) -> list[str]:
    if gate.decoding is None:
        return []
    given = gate.decoding
    words = ["--temperatures", f"{given.temperature:g}", "--max-new-tokens", str(given.max_new_tokens)]
    top_p = ["--top-p", f"{given.top_p:g}"] if given.temperature else []  # greedy answers have none
    return [*words, *top_p, "--seed", str(given.seed)]


def _is_judged(result: Path, gate: GateFields) -> bool:
    """Whether so many prompts have a verdict that the gate may decide; the others count as missing there."""
    if not result.is_file():
        return False
    scores = [number_or_none(item.get("score"), str(result)) for item in read_json(result)["items"]]
    return sum(score is not None for score in scores) >= gate.judged * gate.n


def _results(work: Work) -> list[Path]:
    """The files that the gate reads."""
    found = [work.path("evaluate", "winrate", "winrate.json"), work.path("evaluate", "must-pass.json")]
    return [path for path in (*found, *sorted(work.path("evaluate", "bench").glob("bench-*.json"))) if path.is_file()]


def gate(work: Work) -> Run:
    """Decides, and records the verdict; each attempt with the same candidate halves the error rate."""
    candidate, output = work.candidate or _NO_CANDIDATE, work.path("gate", "gate.json")
    card, must_pass = work.config.evaluate.card, work.config.evaluate.must_pass
    yield Inputs({"gate": work.gate.resolved()}, [*_results(work), *([Path(card)] if card else [])])
    results = [work.path("evaluate", "winrate")]
    if work.config.evaluate.benchmarks:
        results.append(work.path("evaluate", "bench"))
    words = ("loop", "gate", *results, "--config", work.path(GATE), *(("--card", card) if card else ()))
    more = ("--must-pass", work.path("evaluate", "must-pass.json")) if must_pass else ()
    sides = ("--candidate", candidate, "--incumbent", work.incumbent)
    yield work.command(*words, *more, *sides, "--output", output, codes=_VERDICTS)
    if work.dry:
        return Done()
    facts = read_json(output)
    run = record_verdict(work.store, facts, cycle_id=work.id)
    found = {name: facts[name] for name in ("outcome", "attempt", "reasons")}
    return Done({**found, "verdict": run}, [output])
