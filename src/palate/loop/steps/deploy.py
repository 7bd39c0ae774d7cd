"""CANARY, DEPLOY and DEBUG: what follows a verdict. The cycle may end a canary; people move versions.

A person moves a version by signing or forcing a verdict, or by `deploy: on_pass` in the config.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from palate.loop.canary import decide_canary, read_arms
from palate.loop.work import Done, Inputs, Run, Waiting, Work
from palate.registry.aliases import rolled_back
from palate.registry.canary import AUTOMATON, canary_moves, canary_of, set_canary
from palate.registry.verdicts import DecisionFacts, verdicts
from palate.registry.versions import find
from palate.store import Store


def _verdict(work: Work) -> Inputs:
    return Inputs({"verdict": work.figures.get("gate", {}).get("verdict")})


def decision(work: Work) -> DecisionFacts | None:
    """What a person decided last on the candidate's last verdict; None if nobody did."""
    if work.candidate is None:
        return None
    found = work.store.read(lambda session: verdicts(session, work.candidate))
    return found[-1].decisions[-1] if found and found[-1].decisions else None


def is_allowed(work: Work) -> bool:
    """Whether the candidate may go on after its gate: it passed and nobody rejected it, or a person forced it."""
    said = decision(work)
    if said is not None:
        return said.action in ("sign", "force")
    return bool(work.figures["gate"]["outcome"] == "PASS")


def _rolled_back(work: Work) -> str | None:
    """Why the cycle does not deploy a candidate that was in use and was rolled back automatically."""
    back = None if work.dry else work.store.read(lambda session: rolled_back(session, str(work.candidate)))
    if back is None:
        return None
    return f"{work.candidate} was rolled back, and only a person promotes it again: {back.reason}"


def canary(work: Work) -> Run:
    """Gives the candidate a share of people, and waits for the test on their thumbs and errors."""
    yield _verdict(work)
    settings, alias = work.config.canary, work.config.alias
    if settings is None:
        return Done({"reason": "the config has no canary"}, skipped=True)
    if work.dry:
        yield Waiting(f"the canary: {settings.share:.0%} of people of {alias}", "traffic")
        return Done()
    candidate = str(work.candidate)
    if not is_allowed(work):
        end_canary_of(work.store, alias, candidate, f"{work.title} was rejected")
    running = work.store.read(lambda session: canary_of(session, alias))
    if running is None or running.version != candidate:
        if find(work.store, alias).name == candidate:
            return Done({"outcome": "PASS", "reasons": [f"a person moved {alias} to {candidate}"]})
        moved = work.store.read(lambda session: canary_moves(session, candidate))
        back = _rolled_back(work)
        if moved or back or not is_allowed(work):
            why = f"{moved[-1].who}: {moved[-1].reason}" if moved else back or "a person rejected the candidate"
            return Done({"outcome": "ZERO", "reasons": [why]})
        reason = f"{work.title}: {settings.share:.0%} of people after the gate"
        running = set_canary(work.store, candidate, settings.share, alias=alias, who=AUTOMATON, reason=reason)
    found = decide_canary(work.store.read(lambda session: read_arms(session, alias, now=work.now)), settings)
    figures = {"outcome": found.outcome, "reasons": list(found.reasons), "since": running.since.isoformat()}
    if found.outcome == "ZERO":
        end_canary_of(work.store, alias, candidate, f"{work.title}: {'; '.join(found.reasons)}")
    elif found.outcome == "HOLD":
        yield Waiting(
            f"the canary {candidate}: {'; '.join(found.reasons)}",
            "traffic",
            next_act=f"palate model canary {candidate} --share 0 --reason … ends it",
        )
    return Done(figures)


def end_canary_of(store: Store, alias: str, candidate: str | None, reason: str) -> None:
    """End the alias's canary, if it is the candidate."""
    running = store.read(lambda session: canary_of(session, alias))
    if running is not None and running.version == candidate:
        set_canary(store, running.version, 0.0, alias=alias, who=AUTOMATON, reason=reason)


def deploy(work: Work) -> Run:
    """Moves the alias to the candidate, if a person or the config allows it."""
    yield _verdict(work)
    alias, candidate = work.config.alias, work.candidate or "CANDIDATE"
    said = None if work.dry else decision(work)
    served = work.incumbent if work.dry else find(work.store, alias).name
    if served == candidate:
        by = f"{alias} is {candidate} already"
        return Done({"ended": by}, ends=("deployed", by))
    if said is not None and said.action == "reject":
        return Done({"outcome": "REJECTED"})
    if (back := _rolled_back(work)) is not None:
        return Done({"ended": back}, ends=("rejected", back))
    if said is None and work.config.deploy == "person":
        yield Waiting(
            f"a person to sign the verdict on {candidate}",
            "people",
            next_act=f"palate loop sign {candidate} --reason …, or palate loop reject {candidate} --reason …",
        )
    if served != work.incumbent:
        reason = f"{alias} was moved to {served}, and the verdict compares with {work.incumbent}"
        return Done({"ended": reason}, ends=("abandoned", reason))
    by = "the config has deploy: on_pass" if work.config.deploy == "on_pass" else "sign by PERSON: REASON"
    if said is not None:
        by = f"{said.action} by {said.who}: {said.reason}"
    words = ("model", "promote", candidate, "--alias", alias, "--expect", work.incumbent, "--who", AUTOMATON)
    yield work.command(*words, "--reason", f"{work.title}; {by}")
    return Done({"alias": alias, "ended": by}, ends=("deployed", by))


def debug(work: Work) -> Run:
    """Reports what went wrong; then a person may still force the candidate for some days."""
    yield _verdict(work)
    model = Path(str(work.figures.get("train", {}).get("model", work.path("train"))))
    mixed, last = ("pairs", "mix"), work.folder.parent / f"{work.number - 1:04d}"
    results = [work.path("gate"), work.path("evaluate", "winrate"), model, work.path(*mixed), work.path("candidates")]
    before = ("--last", last.joinpath(*mixed)) if last.joinpath(*mixed).is_dir() else ()
    people = ("--campaign", work.campaign) if work.config.annotate.people is not None else ()
    yield work.command("loop", "debug", *results, *before, *people, "--output", work.path("debug"))
    if work.dry:
        return Done()
    said, candidate = decision(work), work.candidate
    outcome = work.figures["gate"]["outcome"]
    ended = work.figures.get("canary", {})
    zeroed = ended.get("outcome") == "ZERO"
    if said is not None and said.action == "force" and not zeroed:
        return Done({"forced": said.who})
    until = work.began + timedelta(days=work.config.force_days)
    if said is None and not zeroed and work.now < until:
        yield Waiting(
            f"a person to force {candidate}, whose verdict is {outcome}, or to reject it; else the cycle ends",
            "people",
            until,
            f"read {work.path('debug', 'debug.html')}; palate loop force {candidate} --reason …, or palate loop "
            f"reject {candidate} --reason …",
        )
    why = f"the canary was ended: {'; '.join(ended['reasons'])}" if zeroed else f"the verdict is {outcome}"
    if said is not None and said.action == "reject":
        why = f"rejected by {said.who}: {said.reason}"
    return Done({"ended": why}, ends=("rejected", why))
