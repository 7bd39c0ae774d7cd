"""The report on a candidate that was not deployed, from the facts of `palate loop debug`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.artifacts import write_json, write_text
from palate.charts import Row, interval_chart
from palate.charts.text import amount, estimate_text, interval_text, number, percent
from palate.report.document import AnswerPair, Document, Section
from palate.report.evaluation.winrates import short_name
from palate.report.intervals import json_interval
from palate.report.key_figures import Card
from palate.report.pages.winrate import group_table
from palate.report.tables import Table, label

_TONES = {"PASS": "right", "FAIL": "wrong"}


def write_debug(facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write debug.html, debug.md and debug.json; returns their paths."""
    document = debug_report(facts)
    return [
        write_text(folder / "debug.html", document.html()),
        write_text(folder / "debug.md", document.markdown()),
        write_json(folder / "debug.json", facts),
    ]


def debug_report(facts: Mapping[str, Any]) -> Document:
    """The document; sections without facts are left out."""
    sections = [_acts(facts), _verdict(facts), _groups(facts), _regressions(facts), _conflicts(facts), _data(facts)]
    names = [short_name(name) for name in (facts["candidate"], facts["incumbent"]) if name]
    return Document(
        "debug report",
        names[0] if names else "candidate",
        f"in place of {names[1]}" if len(names) > 1 else "",
        _cards(facts),
        (facts["winrate"] or {}).get("findings", ()),
        [*(section for section in sections if section is not None), _health(facts)],
        _sentence(facts),
    )


def _sentence(facts: Mapping[str, Any]) -> tuple[str, str]:
    if facts.get("canary"):
        return "wrong", f"The canary was ended: {facts['canary']}"
    gate = facts["gate"]
    if gate is None:
        return "unclear", "No verdict: no gate was run."
    names = [check["name"] for check in _worst_first(gate) if check["state"] != "passed"]
    why = f": {', '.join(names)}" if names else ""
    return _TONES.get(gate["outcome"], "unclear"), f"{gate['outcome']} (attempt {gate['attempt']}){why}"


def _worst_first(gate: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The checks: failed, open, passed."""
    return sorted(gate["checks"], key=lambda check: ("failed", "open", "passed").index(check["state"]))


def _cards(facts: Mapping[str, Any]) -> list[Card]:
    found, cards = facts["winrate"], []
    if found is not None:
        for name, item in (("Win rate", found["win_rate"]), ("At equal length", found["length_controlled"]["rate"])):
            interval = json_interval(item)
            if interval is not None:
                within = interval_text(interval.low, interval.high, as_percent=True)
                cards.append(Card(name, percent(interval.estimate), within))
        a, b = found["mean_lengths"]
        cards.append(Card("Length of answers", f"{a / b:.2f} ×" if b else "–", f"{a:,.0f} and {b:,.0f} characters"))
    data, conflicts = facts["data"]["now"] or {}, facts["conflicts"]
    if "rows" in data:
        cards.append(Card("Training pairs", f"{data['rows']:,}", f"from {data['votes']:,} votes"))
    if conflicts is not None:
        note = (
            f"of {conflicts['repeated']:,} with two votes; judge {conflicts['judge']:,} of {conflicts['with_judge']:,}"
        )
        cards.append(Card("Label conflicts", f"{conflicts['people']:,}", note))
    return cards


def _acts(facts: Mapping[str, Any]) -> Section:
    rows = [(f"{at}. {one['act']}", one["why"]) for at, one in enumerate(facts["acts"], 1)]
    lines = ["By fixed rules from the facts below, the most urgent first."] if rows else ["No rule applies."]
    return Section("acts", "Next acts", lines, tables=[("", Table(("act", "why"), rows))] if rows else [])


def _verdict(facts: Mapping[str, Any]) -> Section | None:
    gate = facts["gate"]
    if gate is None:
        return None
    checks = _worst_first(gate)
    rows = [(check["name"], check["state"], _found(check), check["needed"]) for check in checks]
    lines = [f"{check['name']}: {check['reason']}" for check in checks if check["reason"]]
    return Section("verdict", "Verdict", lines, tables=[("", Table(("check", "state", "found", "needed"), rows))])


def _found(check: Mapping[str, Any]) -> str:
    if check["found"] is None:
        return "–"
    share = check["part"] == "primary" or str(check["needed"]).endswith("%")
    return estimate_text(check["found"], check["low"], check["high"], as_percent=share)


def _groups(facts: Mapping[str, Any]) -> Section | None:
    found = facts["winrate"] or {}
    of = {title: found.get(key, ()) for title, key in (("By category", "by_category"), ("By length", "by_length"))}
    rows = [
        Row(one["name"], rate.estimate, rate.low, rate.high, colour)
        for groups, colour in zip(of.values(), "bc", strict=True)
        for one in groups
        if (rate := json_interval(one["rate"])) is not None
    ]
    if not rows:
        return None
    chart = interval_chart("groups", "Win rate by group", rows, level=(0.5, "50 %"), narrow=True)
    tables = [(title, group_table(groups)) for title, groups in of.items() if groups]
    lines = [f"Win rate of A, which is {short_name(found['a']['name'])}."]
    return Section("groups", "By category and length", lines, [("Win rate by group", chart)], tables)


def _regressions(facts: Mapping[str, Any]) -> Section | None:
    found = facts["winrate"]
    if found is None:
        return None
    names = [short_name(found[side]["name"]) for side in ("a", "b")]
    texts = [
        AnswerPair(
            one["id"],
            f"score {number(one['score'])}",
            one["prompt"],
            list(zip(names, (one["a"], one["b"]), strict=True)),
            [f"Judge: {one['reason']}"] if one.get("reason") else [],
        )
        for one in found["regressions"]
    ]
    of = f"{len(texts)} of {amount(found['losses'], 'prompt')} that {names[0]} lost, the clearest first."
    return Section("regressions", "Worst regressions", [of if texts else f"{names[0]} lost no prompt."], texts=texts)


def _conflicts(facts: Mapping[str, Any]) -> Section | None:
    found = facts["conflicts"]
    if found is None:
        return None
    lines = [
        f"People disagree on {found['people']:,} of {amount(found['repeated'], 'comparison')} with two votes or more; "
        f"the judge contradicts them on {found['judge']:,} of {found['with_judge']:,}. "
        f"{found['votes_of_people']:,} votes of people, {found['votes_of_judges']:,} of judges."
    ]
    texts = [
        AnswerPair(
            one["id"],
            one["between"],
            one["prompt"],
            [("left", one["left"]), ("right", one["right"])],
            [" ".join(filter(None, (f"{vote['by']}: {vote['outcome']}", vote.get("reason")))) for vote in one["votes"]],
        )
        for one in found["items"]
    ]
    return Section("conflicts", "Label conflicts", lines, texts=texts)


def _data(facts: Mapping[str, Any]) -> Section | None:
    now, last = facts["data"]["now"], facts["data"]["last"]
    if now is None and last is None:
        return None
    reasons = [f"{name}: {one['reason']}" for name, one in (("this", now), ("last", last)) if one and "reason" in one]
    sides = [{} if one is None or "reason" in one else _data_rows(one) for one in (now, last)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    rows = [(name, sides[0].get(name, "–"), sides[1].get(name, "–")) for name in names]
    table = Table(("", "this cycle", "last cycle"), rows, numeric=frozenset({1, 2}))
    return Section("data", "Training data", reasons, tables=[("", table)] if rows else [])


def _data_rows(data: Mapping[str, Any]) -> dict[str, str]:
    chosen, rejected = data["length_chosen"], data["length_rejected"]
    return {
        **{name: f"{data[name]:,}" for name in ("rows", "prompts", "votes")},
        "rows whose votes disagree": f"{data['conflicts']:,} ({data['conflicts'] / data['rows']:.1%})",
        "mean length of chosen, characters": f"{chosen:,.0f}",
        "mean length of rejected, characters": f"{rejected:,.0f}",
        "chosen : rejected": f"{chosen / rejected:.2f}",
        **{f"share of the loss, {name}": f"{share:.1%}" for name, share in data["sources"].items()},
        **{f"category {name}": f"{count:,}" for name, count in data["categories"].items()},
    }


def _health(facts: Mapping[str, Any]) -> Section:
    run = facts["run"]
    if run is None:
        return Section("health", "Health of the run", ["No run was named."])
    rows = [
        (f"{label(one['name'])} ({one['severity']}, step {one['step']})", one["message"], one["remedy"] or "–")
        for one in facts["health"]
    ]
    table = Table(("finding", "what", "remedy"), rows)
    status = f"{run['folder']}: {run['status']}, {amount(len(rows), 'finding')}."
    return Section("health", "Health of the run", [status], tables=[("", table)] if rows else [])
