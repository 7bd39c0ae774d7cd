"""The dataset card of an export: a Markdown page of counts and origins, for people and for model hubs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palate.artifacts.markdown import escaped
from palate.charts.text import amount
from palate.feedback.export.collection import Collection, Sampling
from palate.feedback.export.vote_filter import FilteredVotes, is_person
from palate.feedback.votes import Vote, summarise
from palate.stats import krippendorff_alpha

if TYPE_CHECKING:
    from palate.feedback.export.export import Export, ExportOptions

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


def dataset_card(
    done: Export,
    options: ExportOptions,
    used: FilteredVotes,
    rows: Sequence[Mapping[str, Any]],
    collection: Collection,
) -> str:
    """The page, with the YAML header that model hubs read.

    Args:
        used: the votes that count, and those that do not.
        rows: of the file.
    """
    prompts = len({row["lineage"]["item"] for row in rows})
    header = ["---", "tags:", "- palate", f"- {'kto' if done.to == 'kto' else 'preference'}", "---"]
    sections = [
        "\n".join(header),
        f"# {escaped(done.output.name)}",
        _summary(done, prompts, collection),
        _table(_figures(done, options, prompts, rows)),
        "## Voters\n\n" + _table(_voters(used)) + "\n\n" + _agreement(used),
        "## Left out\n\n" + _left_out(done),
        "## What voters were asked\n\n" + _schemas(collection),
        "## How comparisons were sampled\n\n" + _sampling(collection.sampling),
        "## Licence\n\nNot stated. To be filled in by the owner of the data, who knows the licences of the prompts "
        "and of the models' answers.",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(done: Export, prompts: int, collection: Collection) -> str:
    noun, what = ("answer", "with a label") if done.to == "kto" else ("pair", "of a chosen and a rejected answer")
    return (
        f"{amount(done.rows, noun)} {what} to {amount(prompts, 'prompt')}, in the format `{done.to}`, made "
        f"from {amount(done.votes, 'vote')} of {escaped(collection.source.name)}. Every row names "
        f"its item, answers, votes and kinds of voters under `lineage`; `{done.output.name}.data.json` has the "
        "settings and hashes."
    )


def _figures(
    done: Export, options: ExportOptions, prompts: int, rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    models = sorted({model for row in rows for model in row["lineage"]["models"] if model})
    rate = "no two votes" if done.conflict_rate is None else f"{done.conflict_rate:.1%} of {done.repeated:,}"
    numbers = [("rows", f"{done.rows:,}"), *((label, f"{count:,}") for label, count in done.labels.items())]
    return [
        *numbers,
        ("prompts", f"{prompts:,}"),
        ("models that answered", ", ".join(map(escaped, models)) or "not known"),
        ("rows that compare a model with itself", f"{done.same_model:,}"),
        ("comparisons with a vote", f"{done.compared:,}"),
        ("conflict rate (a vote for each answer, of comparisons with two votes or more)", rate),
        ("result of a comparison", f"`{options.aggregate}`: {_RULES[options.aggregate]}"),
        ("`weight` of a row", _weight(options)),
    ]


def _weight(options: ExportOptions) -> str:
    if options.to == "kto":
        return (
            f"mean over the answer's comparisons: {_WEIGHTS[options.aggregate]}; of both bad, the share of such votes"
        )
    if options.select == "extremes":
        return "difference of the two answers' mean win rates, in (0, 1]"
    return _WEIGHTS[options.aggregate]


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


def _agreement(used: FilteredVotes) -> str:
    lines = []
    people = [vote for vote in used.votes if is_person(vote)]
    judges = [vote for vote in used.votes if not is_person(vote)]
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
        found.setdefault(vote.question, {})[vote.who] = vote.outcome
    people = sorted({name for given in found.values() for name in given})
    return [[given.get(name) for name in people] for given in found.values()]


def _left_out(done: Export) -> str:
    rows = [(f"votes: {reason}", f"{count:,}") for reason, count in done.votes_left_out.items()]
    rows += [(f"comparisons, answers or rows: {reason}", f"{count:,}") for reason, count in done.left_out.items()]
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
