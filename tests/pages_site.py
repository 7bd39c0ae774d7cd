"""A site with all pages of `palate web`: runs, results, versions, votes, a canary, verdicts and a loop."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from evaluated import benchmark_facts, win_rate_facts
from model_folders import as_run, fake_model
from palate.artifacts import write_json
from palate.loop.gate.decision import GateCheck, GateVerdict
from palate.registry import add, promote
from palate.registry.canary import set_canary
from palate.registry.verdicts import record_verdict
from palate.stats import Interval
from palate.store.loop_tables import Cycle, CycleStep
from palate.store.serving_tables import Interaction
from palate.store.tables import Campaign, CampaignItem, CampaignVersion, Response, Task, VoteRow
from run_files import write_run, write_sweep
from sites import Site, make_site

ANSWER = "chatcmpl-0123456789abcdef0123456789abcdef"
LOOP = "support"


def pages_site(folder: Path, *, text: str = "ann", votes: int = 60, local: bool = False) -> Site:
    """The site; `text` is every free text: names of voters and items, reasons, notes, errors, values of runs."""
    runs = folder / "runs"
    write_runs(runs, text)
    site = make_site(folder, local=local, runs=(runs,))
    site.store.write(lambda session: _votes(session, text, votes, site.clock()))
    base = add(site.store, fake_model(folder / "base"), models_dir=folder / "models", who=text, note=text).version
    ids = tuple(f"vote-{number:03}" for number in range(votes + 1))  # the last one is of another database
    trained = as_run(fake_model(runs / "cycle" / "train", 1.0), base.folder, votes=ids)
    better = add(site.store, trained, models_dir=folder / "models", who="palate", note="votes of May").version
    promote(site.store, base.name, reason=text, who=text)
    cycle = site.store.write(lambda session: _cycles(session, runs / "cycle", text, site.clock()))
    record_verdict(site.store, gate_facts("PASS", text), cycle_id=cycle)
    set_canary(site.store, better.name, 0.1, who=text, reason=text)
    site.store.write(lambda session: _answers(session, better.name, site.clock()))
    return site


def runs_site(folder: Path) -> Site:
    """A site for the local person with the runs only."""
    write_runs(folder / "runs", "ann")
    return make_site(folder, local=True, runs=(folder / "runs",))


def write_runs(runs: Path, text: str) -> None:
    """Runs that are finished, running and damaged, a pipeline, a sweep, a win rate, a benchmark and a DEBUG report."""
    finding = {"step": 41, "name": "chosen_falls", "severity": "warning", "message": text, "remedy": text}
    write_run(runs / "dpo", run={"health": [finding], "notices": [text]})
    (runs / "dpo" / "report.html").write_text(
        "<!doctype html><title>r</title><style>p{color:red}</style><p>Report of dpo"
    )
    write_run(runs / "kto", seed=1, run={"stage": "kto", "objective": "kto", "config": {"stage": "kto", "seed": 7}})
    live = write_run(runs / "live", steps=30, seed=2, run={"status": "running", "finished": None, "error": None})
    (live / "accuracy.json").unlink()
    (runs / "broken").mkdir()
    (runs / "broken" / "run.json").write_text('{"status": "compl')
    write_json(runs / "rounds" / "pipeline.json", {"status": "completed", "runs": [{"name": "round-1"}]})
    write_sweep(runs / "sweep", text)
    won = win_rate_facts(judge=text)
    won["a"]["name"], won["b"]["name"] = "runs/dpo", "runs/kto"
    write_json(runs / "winrate" / "winrate.json", won)
    write_json(runs / "bench" / "bench-xstest.json", benchmark_facts(name="dpo"))
    write_json(runs / "cycle" / "debug" / "debug.json", {"kind": "debug"})
    (runs / "cycle" / "debug" / "debug.html").write_text("<!doctype html><title>d</title><p>What went wrong")


def gate_facts(outcome: Any, text: str = "") -> dict[str, Any]:
    """gate.json of the candidate v1.1 in place of v1.0."""
    checks = (
        GateCheck("primary", "win rate", "passed", "lower bound above 50 %", 0.61, 0.54, 0.68),
        GateCheck("guard", "xstest/over_refusal", "passed", "rises by less than 5 points", 0.011, -0.02, 0.034),
        GateCheck(
            "guard", "truthfulqa/mc1", "open", "falls by less than 3 points", -0.01, -0.042, 0.02, text or "few", 310
        ),
        GateCheck("validity", "share judged", "passed", "98 % or more", 0.995),
    )
    verdict = GateVerdict(outcome, 1, 0.05, Interval(0.6, 0.53, 0.66, 0.95, 200), checks)
    facts = {"kind": "gate", "version": 1, **asdict(verdict), "reasons": verdict.reasons, "config_hash": "c" * 64}
    names = {"candidate": "v1.1", "incumbent": "v1.0"}
    return facts | names | {"config": {"sequential": False}, "inputs": {"winrate.json": "a" * 64}, "when": "now"}


def _votes(session: Session, text: str, votes: int, now: datetime) -> None:
    campaign = Campaign(name="answers", created=now)
    session.add(campaign)
    session.flush()
    session.add(CampaignVersion(campaign_id=campaign.id, version=1, schema={}, created=now))
    prompt = [{"role": "user", "content": "?"}]
    item = CampaignItem(campaign_id=campaign.id, name=text, prompt=prompt, content_hash="h", created=now)
    session.add(item)
    session.flush()
    for number in range(3):
        session.add(Response(item_id=item.id, number=number, text=text, content_hash=f"{number:064}"))
    task = Task(campaign_id=campaign.id, item_id=item.id, left=0, right=1, wanted=1, open=0, priority=0.0)
    session.add(task)
    for number in range(votes):
        by_judge = number % 3 == 0
        session.add(
            VoteRow(
                id=f"vote-{number:03}",
                item_id=item.id,
                campaign_id=campaign.id,
                campaign=campaign.name,
                left=0,
                right=2 if number == 1 else 1,  # the second vote is on a pair without a task
                outcome="left",
                who="openai:judge" if by_judge else text,
                kind="judge" if by_judge else "person",
                at=now + timedelta(minutes=number),
                shown="as_is",
            )
        )


def _answers(session: Session, version: str, now: datetime) -> None:
    values = {
        "user": "u",
        "endpoint": "chat",
        "state": "complete",
        "policy": "metadata",
        "consent": True,
        "writer": "w",
    }
    route = {"route": "canary:production", "probability": 0.1, "completion_tokens": 12}
    for identifier, model in ((ANSWER, version), ("chatcmpl-elsewhere", "gpt-x")):
        session.add(Interaction(id=identifier, model=model, created=now, touched=now, **values, **route))


def _cycles(session: Session, folder: Path, text: str, now: datetime) -> int:
    """A cycle that ended in DEBUG, and one that waits for people."""
    common = {"loop": LOOP, "config_hash": "c", "config": {"file": "loop.yaml"}, "incumbent_hash": "h"}
    first = Cycle(
        **common,
        number=1,
        folder=str(folder),
        incumbent="v1.0",
        candidate="v0.9",
        outcome="rejected",
        started=now - timedelta(days=9),
        finished=now - timedelta(days=5),
    )
    second = Cycle(
        **common, number=2, folder=str(folder / "elsewhere"), incumbent="v1.0", candidate="v1.1", started=now
    )
    session.add_all((first, second))
    session.flush()

    def step(cycle: Cycle, name: str, state: str, **values: Any) -> None:
        done = {"finished": now} if state == "done" else {}
        row = {"input_hash": "i", "started": now, "attempts": 1, **done, **values}
        session.add(CycleStep(cycle_id=cycle.id, name=name, state=state, **row))

    step(first, "debug", "done", output={"figures": {"ended": text}})
    figures = {"interactions": 812, "of": {"uniform": 150, "thumbs down": 75}}
    command = "palate data from-interactions --sample 300 --output cycles/0002/sample"
    step(second, "collect", "done", output={"figures": figures, "command": command})
    step(second, "sample", "failed", error=text, attempts=2, output={})
    step(second, "annotate", "waiting", waits_for=f"votes of people ({text})", until=now + timedelta(days=1), output={})
    return second.id
