"""The dataset card of an export: a Markdown page of counts and origins, for people and for model hubs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from palate.artifacts.markdown import escaped
from palate.charts.text import amount
from palate.feedback.export.collection import Collection, Sampling
from palate.feedback.export.vote_filter import FilteredVotes, is_person
from palate.feedback.votes import Vote, summarise
from palate.stats import krippendorff_alpha

_RESAMPLES = 500
_RULES = {
    "majority": "the answer with more votes wins; every vote counts once",
    "weighted": 'the answer with more votes wins; a vote for "much better" counts twice',
    "dawid_skene": "the most probable result, with each voter's error rates estimated from all votes "
    "(Dawid and Skene 1979)",
}
_WEIGHTS = {
    "majority": "|votes for − votes against| / votes, in (0, 1]",
    "weighted": '|votes for − votes against| / votes, "much better" twice, in (0, 2]',
    "dawid_skene": "difference of the two answers' probabilities to be better, in (0, 1]",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card says of an export; names as in `feedback.export.Export`.

    Attributes:
        name: of the file.
        prompts: number of different prompts.
        votes: the votes that count, and those that do not.
        models: names of the models that wrote the answers.
    """

    name: str
    to: str
    aggregate: str
    select: str
    rows: int
    prompts: int
    votes: FilteredVotes
    compared: int
    repeated: int
    conflicts: int
    left_out: Mapping[str, int]
    labels: Mapping[str, int]
    same_model: int
    models: tuple[str, ...]


def dataset_card(facts: CardFacts, collection: Collection) -> str:
    """The page, with the YAML header that model hubs read."""
    header = ["---", "tags:", "- palate", f"- {'kto' if facts.to == 'kto' else 'preference'}", "---"]
    sections = [
        "\n".join(header),
        f"# {escaped(facts.name)}",
        _summary(facts, collection),
        _table(_figures(facts)),
        "## Voters\n\n" + _table(_voters(facts.votes)) + "\n\n" + _agreement(facts),
        "## Left out\n\n" + _left_out(facts),
        "## What voters were asked\n\n" + _schemas(collection),
        "## How comparisons were sampled\n\n" + _sampling(collection.sampling),
        "## Licence\n\nNot stated. To be filled in by the owner of the data, who knows the licences of the prompts "
        "and of the models' answers.",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(facts: CardFacts, collection: Collection) -> str:
    noun, what = ("answer", "with a label") if facts.to == "kto" else ("pair", "of a chosen and a rejected answer")
    return (
        f"{amount(facts.rows, noun)} {what} to {amount(facts.prompts, 'prompt')}, in the format `{facts.to}`, made "
        f"from {amount(len(facts.votes.votes), 'vote')} of {escaped(collection.source.name)}. Every row names "
        f"its item, answers, votes and kinds of voters under `lineage`; `{facts.name}.data.json` has the settings and "
        "hashes."
    )


def _figures(facts: CardFacts) -> list[tuple[str, str]]:
    rate = f"{facts.conflicts / facts.repeated:.1%} of {facts.repeated:,}" if facts.repeated else "no two votes"
    numbers = [("rows", f"{facts.rows:,}"), *((label, f"{count:,}") for label, count in facts.labels.items())]
    return [
        *numbers,
        ("prompts", f"{facts.prompts:,}"),
        ("models that answered", ", ".join(map(escaped, facts.models)) or "not known"),
        ("rows that compare a model with itself", f"{facts.same_model:,}"),
        ("comparisons with a vote", f"{facts.compared:,}"),
        ("conflict rate (a vote for each answer, of comparisons with two votes or more)", rate),
        ("result of a comparison", f"`{facts.aggregate}`: {_RULES[facts.aggregate]}"),
        ("`weight` of a row", _weight(facts)),
    ]


def _weight(facts: CardFacts) -> str:
    if facts.to == "kto":
        return f"mean over the answer's comparisons: {_WEIGHTS[facts.aggregate]}; of both bad, the share of such votes"
    if facts.select == "extremes":
        return "difference of the two answers' mean win rates, in (0, 1]"
    return _WEIGHTS[facts.aggregate]


def _voters(votes: FilteredVotes) -> list[tuple[str, str]]:
    """Kind → votes, their share, and the number of people or the names of judges."""
    total = len(votes.votes)
    lines = []
    for kind, count in votes.kinds.items():
        names = sorted({vote.who for vote in votes.votes if vote.kind == kind})
        people = "1 person" if len(names) == 1 else f"{len(names):,} people"
        who = people if kind == "person" else ", ".join(map(escaped, names))
        lines.append((kind, f"{amount(count, 'vote')} ({count / total:.1%}) by {who}"))
    return lines


def _agreement(facts: CardFacts) -> str:
    lines = []
    people = [vote for vote in facts.votes.votes if is_person(vote)]
    judges = [vote for vote in facts.votes.votes if not is_person(vote)]
    if people:
        alpha = krippendorff_alpha(_ratings(people), resamples=_RESAMPLES)
        lines.append(f"Krippendorff's α of the people's votes (left, right, tie, both bad; 95 % interval): {alpha}.")
    if judges:
        seen = summarise(judges)
        if seen.questions:
            lines.append(f"Judges gave the same result in both orders on {seen.consistent:,} of {seen.questions:,}.")
        if seen.first_won is not None:
            lines.append(f"The answer shown first won {seen.first_won:.1%} of the judges' decided votes.")
    return "\n".join(lines)


def _ratings(votes: Iterable[Vote]) -> list[list[str | None]]:
    """Comparisons as rows of outcomes, one entry for each person."""
    found: dict[tuple[str, int, int], dict[str, str]] = {}
    for vote in votes:
        found.setdefault((vote.item, vote.left, vote.right), {})[vote.who] = vote.outcome
    people = sorted({name for given in found.values() for name in given})
    return [[given.get(name) for name in people] for given in found.values()]


def _left_out(facts: CardFacts) -> str:
    rows = [(f"votes: {reason}", f"{count:,}") for reason, count in facts.votes.left_out.items()]
    rows += [(f"comparisons, answers or rows: {reason}", f"{count:,}") for reason, count in facts.left_out.items()]
    return _table(rows) if rows else "Nothing."


def _schemas(collection: Collection) -> str:
    if not collection.schemas:
        return "Not known: the votes were read from a file."
    parts = []
    for version, schema in collection.schemas.items():
        used = sum(vote.schema_version == version for vote in collection.votes)
        rows = [
            (name, escaped(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
            for name, value in schema.items()
            if value not in ("", None, [], {})
        ]
        parts.append(f"Version {version} ({amount(used, 'vote')}):\n\n{_table(rows)}")
    return "\n\n".join(parts)


def _sampling(sampling: Sampling | None) -> str:
    if sampling is None:
        return "Not known: the votes were read from a file."
    if sampling.lowest is None or sampling.highest is None:
        return f"No sampling probability is stored for the campaign's comparisons, {sampling.tasks:,} in all."
    uniform = math.isclose(sampling.lowest, sampling.highest)
    span = f"{sampling.lowest:.4g}" if uniform else f"{sampling.lowest:.4g} to {sampling.highest:.4g}"
    note = "" if uniform else " Some were preferred, so rates over these rows do not estimate rates over all prompts."
    return (
        f"{sampling.known:,} of {sampling.tasks:,} comparisons have a stored probability of being drawn first from the "
        f"campaign: {span}.{note}"
    )


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
