"""What to do next about a candidate that was not deployed: explicit rules over the facts of `palate loop debug`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

MOST_CONFLICTS: Final = 0.3
"""Share of comparisons with conflicting votes from which labels come before training."""
LONGER: Final = 1.25
"""Ratio of mean lengths, chosen : rejected, from which training data teach length."""
FEWER_VOTES: Final = 0.5
SHIFT: Final = 0.2
"""Change of a source's share of the loss that is named."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something to do.

    Attributes:
        rule: its name.
        act: what to do, with a command or key.
        why: the fact that asks for it.
    """

    rule: str
    act: str
    why: str


Facts: TypeAlias = Mapping[str, Any]
Rule: TypeAlias = Callable[[Facts], Iterator[tuple[str, str]]]
_OF_CHECK: Final[Mapping[str, str]] = {
    "judge card": "calibrate the judge (palate judge calibrate); until its card lets it decide, let people vote",
    "same in both orders": "use a steadier judge (a larger one, a jury) or people, and measure the win rate again",
    "share judged": "run the same `palate eval winrate` again: it asks only for the missing verdicts",
    "prompts": "measure the win rate on all prompts of the gate's config",
    "prompts of the config": "measure the win rate on the prompts of the gate's config",
    "judge of the config": "measure the win rate with the judge of the gate's config",
    "decoding of the config": "measure the win rate with the decoding of the gate's config",
    "latency p95": "measure both models with `palate serve` on the same machine and give --latency OLD NEW",
}
"""Name of a gate's check that did not pass → act."""


def advice(facts: Facts) -> list[Act]:
    """The acts, the most urgent first: what makes the measurement valid comes before what changes the model."""
    return [Act(name, act, why) for name, rule in RULES.items() for act, why in rule(facts)]


def _checks(facts: Facts, *parts: str, name: str | None = None) -> Iterator[Mapping[str, Any]]:
    """The gate's checks of these parts, or the one of this name in them, that did not pass."""
    checks: Sequence[Mapping[str, Any]] = (facts.get("gate") or {}).get("checks", ())
    of = (check for check in checks if check["state"] != "passed" and check["part"] in parts)
    return (check for check in of if name in (None, check["name"]))


def _no_verdict(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.get("gate") is None:
        yield "decide with palate loop gate", "there is no verdict of a gate"


def _canary(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.get("canary"):
        act = f"read what people disliked: palate interactions list --model {facts['candidate']} --thumbs down"
        yield act, f"its canary was ended: {facts['canary']}"


def _on(name: str, act: str) -> Rule:
    """The rule that a check asks for an act."""

    def rule(facts: Facts) -> Iterator[tuple[str, str]]:
        return ((act, f"{name}: {check['reason']}") for check in _checks(facts, "validity", "range", name=name))

    return rule


def _validity(facts: Facts) -> Iterator[tuple[str, str]]:
    for check in _checks(facts, "validity", "range"):
        if check["name"] in _OF_CHECK:
            yield _OF_CHECK[check["name"]], f"{check['name']}: {check['reason']}"


def _run(facts: Facts) -> Iterator[tuple[str, str]]:
    run = facts.get("run")
    if run is not None and run["status"] != "completed":
        yield f"finish the run: palate train with output_dir {run['folder']}", f"the run is {run['status']}"
    for finding in sorted(facts["health"], key=lambda one: one["severity"] != "error"):
        yield finding["remedy"] or "see the run's report", f"{finding['name']}: {finding['message']}"


def _conflicts(facts: Facts) -> Iterator[tuple[str, str]]:
    found = facts.get("conflicts")
    if not found:
        return
    people, judge = found["people"] / max(1, found["repeated"]), found["judge"] / max(1, found["with_judge"])
    if people >= MOST_CONFLICTS:
        act = (
            "have a reviewer decide them, say in the campaign's guidelines what counts, and ask for more votes per item"
        )
        yield act, f"people disagree on {people:.0%} of {found['repeated']:,} comparisons with two votes or more"
    if judge >= MOST_CONFLICTS:
        act = "calibrate the judge (palate judge calibrate) or lower its weight in sources"
        yield act, f"the judge contradicts people on {judge:.0%} of {found['with_judge']:,} comparisons"


def _length(facts: Facts) -> Iterator[tuple[str, str]]:
    for check in _checks(facts, "range", name="length ratio"):
        data = facts["data"]["now"] or {}
        ratio = data["length_chosen"] / data["length_rejected"] if data.get("length_rejected") else None
        longer = check["found"] is not None and check["found"] > 1
        if longer and ratio is not None and ratio > LONGER:
            act = "balance the lengths of the pairs: palate data curate with the rule length_ratio"
            yield act, f"answers are {check['found']:.2f} times as long, and chosen ones {ratio:.2f} times as rejected"
        else:
            act = "train with pref_loss: sigmoid_norm, or with ld_alpha: 0.5" if longer else "lower the learning rate"
            yield act, f"length ratio: {check['reason']}"


def _guards(facts: Facts) -> Iterator[tuple[str, str]]:
    for check in _checks(facts, "guard"):
        name, _, metric = check["name"].partition("/")
        if check["state"] == "failed":
            act = f"raise pref_beta or lower the learning rate, and add comparisons on what {check['name']} measures"
        elif not metric:
            act = "run all must-pass prompts and give their log with --must-pass"
        elif check["found"] is None:
            act = f"measure both models on the whole benchmark: palate eval bench {name}"
        else:
            act = _more(check, "items")
        yield act, f"{check['name']}: {check['reason']}"


def _primary(facts: Facts) -> Iterator[tuple[str, str]]:
    for check in _checks(facts, "primary"):
        groups = [one for one in (facts.get("winrate") or {}).get("by_category", ()) if one["rate"] is not None]
        worst = min(groups, key=lambda one: one["rate"]["estimate"], default=None)
        if check["state"] == "failed":
            act = "read the regressions below; then collect comparisons"
            yield act + (f" on {worst['name']}, the worst category" if worst else ""), check["reason"]
        else:
            act = _OF_CHECK["prompts"] if check["found"] is None else _more(check, "prompts")
            yield act, f"{check['name']}: {check['reason']}"


def _more(check: Mapping[str, Any], unit: str) -> str:
    if check["more"] is None:
        return f"train on more comparisons: more {unit} cannot settle {check['name']}"
    return (
        f"measure about {check['more']:,} more {unit} (raise n in the gate's config), then gate with the next --attempt"
    )


def _data(facts: Facts) -> Iterator[tuple[str, str]]:
    now, last = facts["data"]["now"] or {}, facts["data"]["last"] or {}
    if last.get("votes") and now.get("votes", 0) < FEWER_VOTES * last["votes"]:
        yield "collect more votes", f"{now.get('votes', 0):,} votes, {last['votes']:,} in the last cycle"
    if "sources" in now and "sources" in last:
        names = dict.fromkeys([*now["sources"], *last["sources"]])
        shares = {name: (now["sources"].get(name, 0.0), last["sources"].get(name, 0.0)) for name in names}
        moved = [f"{name} {a:.0%} (was {b:.0%})" for name, (a, b) in shares.items() if abs(a - b) >= SHIFT]
        if moved:
            act = "see whether the other shares of the sources are wanted, and set their weights"
            yield act, f"share of the loss: {', '.join(moved)}"


RULES: Final[Mapping[str, Rule]] = {
    "no verdict": _no_verdict,
    "canary": _canary,
    "leak": _on(
        "leaked prompts",
        "take the gate's prompts out of the data (palate data curate, rule decontaminate) and train again",
    ),
    "validity": _validity,
    "run": _run,
    "conflicts": _conflicts,
    "broken answers": _on(
        "empty or repeating answers",
        "lower the learning rate or add pref_ftx: 0.1, and look at the samples in the run's report",
    ),
    "length": _length,
    "guards": _guards,
    "win rate": _primary,
    "data": _data,
}
"""In the order of urgency."""
