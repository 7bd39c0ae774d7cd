"""The page of a judge card."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from palate.charts import Row, interval_chart
from palate.charts.text import amount, number, percent
from palate.feedback.calibration.biases import Preference, Share
from palate.feedback.calibration.canaries import KINDS
from palate.feedback.calibration.card import CardVerdict, JudgeCard
from palate.report.html import redacted, render, value
from palate.report.intervals import shown
from palate.report.tables import Table, label
from palate.stats import FEW_CLUSTERS, Agreement, Corrected, Interval

VERDICTS: Mapping[CardVerdict, tuple[str, str]] = {
    "may_decide_alone": ("right", "This judge may decide alone."),
    "not_alone": ("unclear", "This judge may not decide alone: people must confirm its decisions."),
    "invalid": ("wrong", "This judge is invalid: do not use its votes."),
}
"""Per verdict the class of its colour, and the sentence."""
_FIGURE = ("figure", "value (95 % interval)")


def judge_card_page(card: JudgeCard) -> str:
    """The card as HTML."""
    tone, verdict = VERDICTS[card.verdict]
    return render(
        "judge_card.html",
        title=card.judge.name,
        subtitle=f"measured {card.when} on {amount(card.questions, 'question')}",
        tone=tone,
        verdict=verdict,
        reasons=card.reasons,
        charts=[("Agreement and order", _chart(card))],
        agreement=Table(_FIGURE, agreement_rows(card)),
        agreement_counts=agreement_counts(card),
        biases=Table(("bias", "value (95 % interval)"), bias_rows(card)),
        canaries=_canaries(card),
        prompts=_prompts(card),
        spread=""
        if card.prompts.spread is None
        else f"Largest minus smallest agreement: {percent(card.prompts.spread)}.",
        models=_models(card),
        differences=_differences(card),
        same_model=_same_model(card),
        no_models=card.models.reason.capitalize(),
        people=Table(_FIGURE, people_rows(card)),
        people_counts=people_counts(card),
        annotators=_annotators(card),
        facts=_facts(card),
    )


def figure(found: Agreement | Share, *, as_percent: bool = True) -> str:
    """A figure with its interval and n, or why it is undefined."""
    if found.interval is None:
        return f"not known: {found.reason}"
    few = " (few: the interval is rough)" if found.interval.n <= FEW_CLUSTERS else ""
    return f"{shown(found.interval, as_percent=as_percent)}, n = {found.interval.n:,}{few}"


def agreement_counts(card: JudgeCard) -> str:
    """How many questions the agreement is about, and how many are left out of it."""
    found = card.agreement
    return (
        f"{amount(found.questions, 'question')} with a majority of people; of these {found.unparsed:,} without a "
        f"readable verdict in both orders and {found.missing:,} without a verdict (equal answers, or no reply). "
        f"Without a majority {found.no_majority:,}; “both bad” {found.both_bad:,}. "
        f"Unparsed verdicts in all: {card.unparsed:,} of {card.verdicts:,}; missing: {card.missing:,}."
    )


def people_counts(card: JudgeCard) -> str:
    """How many votes there are, and how many are left out."""
    found = card.people
    left_out = ", ".join(f"{reason} {count:,}" for reason, count in found.left_out.items()) or "none"
    return (
        f"{amount(found.votes, 'vote')} of {amount(found.people, 'person', 'people')} on "
        f"{amount(found.questions, 'question')}, {found.voted_twice:,} of "
        f"them with two votes or more; {amount(found.repeats, 'repeat')} and {amount(found.gold, 'gold vote')} "
        f"besides. Votes left out: {left_out}."
    )


def _chart(card: JudgeCard) -> Markup:
    named: dict[str, Interval | None] = {
        "judge with majority": card.agreement.agreement.interval,
        "person with the others": card.agreement.people.interval,
        "same in both orders": card.position.consistency if card.position else None,
        "same when asked again": card.repetition.interval,
        "judge prefers the longer": card.length.judge.interval,
        "people prefer the longer": card.length.people.interval,
    }
    rows = [Row(name, one.estimate, one.low, one.high) for name, one in named.items() if one is not None]
    return interval_chart("judge-card", "Agreement and order", rows, level=(0.5, "50 %"))


def agreement_rows(card: JudgeCard) -> list[tuple[str, str]]:
    """(figure, value) of the judge against people."""
    return [
        ("judge with the majority", figure(card.agreement.agreement)),
        ("κ of judge and majority", figure(card.agreement.kappa, as_percent=False)),
        ("person with the majority of the others", figure(card.agreement.people)),
    ]


def bias_rows(card: JudgeCard) -> list[tuple[str, str]]:
    """(bias, value)."""
    found = card.position
    unknown = "not known: no question has a readable verdict in both orders"
    return [
        ("same verdict in both orders", unknown if found is None else shown(found.consistency, as_percent=True)),
        (
            "answer shown first wins",
            unknown
            if found is None
            else f"{percent(found.first_slot)}; first slot both times {found.first_both:,}, second slot both times "
            f"{found.second_both:,}, exact test p = {number(found.p_value, 3)}",
        ),
        ("same verdict when asked again", figure(card.repetition)),
        ("prefers the longer answer", _preference(card.length)),
        ("prefers answers of its own model", _preference(card.own_answers)),
        ("reason contradicts the verdict", figure(card.contradictions)),
        ("spread over prompts", card.prompts.reason or percent(card.prompts.spread)),
    ]


def _preference(found: Preference) -> str:
    if found.judge.interval is None:
        return figure(found.judge)
    difference = found.difference
    paired = "" if difference is None else f"; difference {shown(difference, as_percent=True)}"
    return f"{figure(found.judge)}; people {shown(found.people.interval, as_percent=True)}{paired}"


def _canaries(card: JudgeCard) -> Table:
    rows = [
        (KINDS[one.kind], one.asked, one.wins, one.ties, one.unparsed, one.reason or ", ".join(one.ids[:5]))
        for one in card.canaries
    ]
    return Table(
        ("canary", "asked", "wins", "ties", "unparsed", "rows, or why not"), rows, numeric=frozenset({1, 2, 3, 4})
    )


def _prompts(card: JudgeCard) -> Table:
    rows = [
        (one.prompt, figure(one.agreement), figure(one.kappa, as_percent=False), one.unparsed, one.missing)
        for one in card.prompts.prompts
    ]
    return Table(("prompt", "agreement", "κ", "unparsed", "missing"), rows, numeric=frozenset({3, 4}))


def _models(card: JudgeCard) -> Table:
    columns = ("model", "labelled", "not labelled", "unparsed", "people", "raw", "PPI++", "Rogan–Gladen", "J")
    rows = [
        (
            one.model,
            one.labelled,
            one.unlabelled,
            one.unparsed,
            shown(one.people, as_percent=True),
            shown(one.ppi.raw, as_percent=True),
            corrected_text(one.ppi),
            corrected_text(one.rogan_gladen),
            number(one.accuracy.j, 2),
        )
        for one in card.models.models
    ]
    return Table(columns, rows, numeric=frozenset({1, 2, 3, 8}))


def _differences(card: JudgeCard) -> Table:
    rows = [
        (
            f"{one.first} − {one.second}",
            shown(one.win_rate.raw, as_percent=True),
            corrected_text(one.win_rate),
            number(one.delta_j, 2),
        )
        for one in card.models.differences
    ]
    return Table(("models", "raw", "corrected", "ΔJ"), rows, numeric=frozenset({3}))


def corrected_text(found: Corrected) -> str:
    """A corrected rate, or the reason against it beside the raw one."""
    if found.interval is None:
        return f"refused: {found.reason}; raw {shown(found.raw, as_percent=True)}"
    return shown(found.interval, as_percent=True)


def _same_model(card: JudgeCard) -> str:
    count = card.models.same_model
    left_out = f"answers of one model, or of models without a name, {amount(count, 'question')}"
    return f"Left out: {left_out}." if count else ""


def people_rows(card: JudgeCard) -> list[tuple[str, str]]:
    """(figure, value) of people's agreement with each other."""
    found = card.people
    fleiss = f"Fleiss's κ, {found.fleiss_votes} votes each" if found.fleiss_votes else "Fleiss's κ"
    return [
        ("share of agreeing pairs of votes", figure(found.percent)),
        ("Cohen's κ", figure(found.cohen, as_percent=False)),
        (fleiss, figure(found.fleiss, as_percent=False)),
        ("Krippendorff's α, nominal", figure(found.alpha_nominal, as_percent=False)),
        ("Krippendorff's α, ordinal (five levels)", figure(found.alpha_ordinal, as_percent=False)),
    ]


def _annotators(card: JudgeCard) -> Table:
    columns = ("person", "votes", "gold", "repeats", "with the others", "first wins", "p", "Dawid–Skene", "MACE")
    rows = [
        (
            one.who,
            f"{one.votes:,}",
            *(shown(item, as_percent=True) for item in (one.gold, one.repeats, one.with_others, one.first_won)),
            number(one.first_p, 2),
            percent(one.dawid_skene),
            percent(one.mace),
        )
        for one in card.annotators
    ]
    return Table(columns, rows, numeric=frozenset({1, 6, 7, 8}))


def _facts(card: JudgeCard) -> list[tuple[str, str]]:
    facts = [
        ("judge", card.judge.name),
        ("model", card.judge.model or "–"),
        ("SHA-256 of its prompt", card.judge.prompt_hash or "no prompt"),
        ("questions", f"{card.questions:,}, each in both orders"),
        ("concurrency", "in this process" if card.concurrency is None else f"{card.concurrency} requests in flight"),
    ]
    facts += [(f"endpoint: {label(key)}", value(item)) for key, item in redacted(card.endpoint or {}).items()]
    return facts + [(f"SHA-256 of {name}", digest) for name, digest in card.inputs.items()]
