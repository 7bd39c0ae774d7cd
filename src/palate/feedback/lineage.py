"""Where a training row comes from: its item, answers, models, votes and voters."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palate.feedback.candidates import Candidates
from palate.feedback.vote_filter import is_person
from palate.feedback.votes import Vote


@dataclass(frozen=True, slots=True)
class VoteSource:
    """Where votes were read from.

    Attributes:
        name: of the files, or of the campaign in a store.
        judges: what is known of each judge by its name: prompt, identity, hash of its judge card.
    """

    name: str = ""
    judges: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def lineage(
    row: Candidates, answers: Sequence[int], cast: Sequence[Vote], source: VoteSource, **further: Any
) -> dict[str, Any]:
    """The lineage of a row that was made from votes, without what is not known.

    Args:
        row: the prompt and its answers.
        answers: numbers of the answers that the row has, in its order.
        cast: the votes that it was made from.
        source: where they come from.
        further: more entries.
    """
    models = [answer_model(row, number) for number in answers]
    judges = dict.fromkeys(vote.who for vote in cast if not is_person(vote))
    found: dict[str, Any] = {
        "source": source.name,
        "item": row.id,
        "answers": list(answers),
        "models": models if any(models) else [],
        # A comparison of a version with itself trains as any other, but says nothing about which version is better.
        "same_model": len(models) > 1 and bool(models[0]) and len(set(models)) == 1,
        "votes": [vote.id or f"{vote.who} {vote.shown} {vote.when}" for vote in cast],
        "voters": dict(Counter(vote.kind for vote in cast)),
        "judges": {name: dict(source.judges.get(name, {})) for name in judges},
        "campaigns": sorted({vote.campaign for vote in cast if vote.campaign}),
        "schema_versions": sorted({vote.schema_version for vote in cast if vote.schema_version is not None}),
        **further,
    }
    return {name: value for name, value in found.items() if value not in ("", [], {}, False, None)}


def answer_model(row: Candidates, number: int) -> str:
    """The name of the model that wrote an answer; "" if it is not known."""
    models = row.columns.get("models")
    if isinstance(models, list) and len(models) == len(row.completions):
        return str(models[number] or "")
    return row.model


def tools_of(row: Candidates) -> str | None:
    """The tools that were offered with the prompt, as JSON."""
    tools = row.columns.get("tools")
    return tools if tools is None or isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
