"""Where a training row comes from: its item, answers, models, votes and voters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from palate.feedback.candidates import Candidates
from palate.feedback.export.vote_filter import is_person
from palate.feedback.votes import Vote


@dataclass(frozen=True, slots=True)
class JudgeOrigin:
    """What determines a judge's verdicts, as far as it is known; "" where not.

    Attributes:
        name: as in its votes; of a judge over an API it ends with its prompt and a hash of prompt and settings.
        prompt: name, version and SHA-256 of its prompt.
        card: hash of its judge card, which says what was measured of it; "" for an unmeasured judge.
    """

    name: str
    prompt: str = ""
    card: str = ""


@dataclass(frozen=True, slots=True)
class VoteSource:
    """Where votes were read from: the names of the files or of the campaign, and what is known of judges by name."""

    name: str = ""
    judges: Mapping[str, JudgeOrigin] = field(default_factory=dict)


def lineage(
    row: Candidates, answers: Sequence[int], cast: Sequence[Vote], source: VoteSource, *, conflict: bool
) -> dict[str, Any]:
    """The lineage of a row that was made from votes.

    Every row has the same keys with the same types, because readers of columnar files need that. People are not named.

    Args:
        answers: numbers of the answers that the row has, in its order.
        cast: the votes that it was made from.
    """
    origins = [row.origin(number) for number in answers]
    models = [origin.model for origin in origins]
    judges = dict.fromkeys(vote.who for vote in cast if not is_person(vote))
    return {
        "source": source.name,
        "item": row.id,
        "answers": list(answers),
        "models": models,
        "identities": [origin.identity or "" for origin in origins],
        # A comparison of a version with itself trains as any other, but says nothing about which version is better.
        "same_model": len(models) > 1 and bool(models[0]) and len(set(models)) == 1,
        "votes": [vote_name(vote) for vote in cast],
        "voters": [{"kind": kind, "votes": count} for kind, count in Counter(vote.kind for vote in cast).items()],
        "judges": [asdict(source.judges.get(name, JudgeOrigin(name))) for name in judges],
        "campaigns": sorted({vote.campaign for vote in cast if vote.campaign}),
        "schema_versions": sorted({vote.schema_version for vote in cast if vote.schema_version is not None}),
        "conflict": conflict,
    }


def vote_name(vote: Vote) -> str:
    """The vote's id; without one, its judge (of people only the kind), comparison, order and time."""
    who = vote.kind if is_person(vote) else vote.who
    return vote.id or f"{who} {vote.item} {vote.left}-{vote.right} {vote.shown} {vote.when}"
