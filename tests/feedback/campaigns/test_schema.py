"""Schemas are read strictly: a wrong key or value is named."""

from __future__ import annotations

from typing import Any

import pytest

from palate.errors import DataError
from palate.feedback.campaigns.schema import CampaignSchema


def test_a_schema_survives_json() -> None:
    schema = CampaignSchema("be kind", ("longer",), ("accuracy", "tone"), 3, 0.05, 0.1, "uncertain", 4, 20, 7)
    assert CampaignSchema.from_json(schema.to_json()) == schema
    assert schema.to_json()["tags"] == ["longer"]
    assert CampaignSchema.from_json({}) == CampaignSchema()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vote_per_item": 3}, "unknown key vote_per_item; did you mean votes_per_item"),
        ({"colour": 1}, "unknown key colour; criteria, tags"),
        ({"votes_per_item": 0}, "votes_per_item: 0 must be from 1"),
        ({"votes_per_item": True}, "votes_per_item: True must be a whole number"),
        ({"votes_per_item": 2.5}, "votes_per_item: 2.5 must be a whole number"),
        ({"votes_per_item": None}, "votes_per_item: None must be a whole number"),
        ({"per_prompt": 0}, "per_prompt: 0 must be from 1"),
        ({"gold_share": float("nan")}, "gold_share: nan must be a share"),
        ({"gold_share": 1}, "gold_share: 1.0 must be a share"),
        ({"gold_share": 0.6, "repeat_share": 0.5}, "their sum must be below 1"),
        ({"order": "best"}, "order: 'best' is not one of random, uncertain, disagreement"),
        ({"tags": "longer"}, "tags: 'longer' must be a list"),
        ({"tags": ["a", "a"]}, "tags: 'a' is given twice"),
        ({"dimensions": [" "]}, "dimensions: ' ' must have 1 to 100 characters"),
        ({"criteria": 4}, "criteria: 4 must be a text"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as error:
        CampaignSchema.from_json(given)
    assert message in str(error.value)
