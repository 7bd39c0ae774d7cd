"""Every column of the store that can hold text says what it holds of a person, and a deletion reaches all that do."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, MetaData, String
from sqlalchemy import Table as Plain

from palate.serving.recording.erasure import REACHED
from palate.store.deletion import dependents
from palate.store.personal import inventory
from palate.store.tables import Base

METADATA = Base.metadata


def test_every_column_that_can_hold_text_is_classified() -> None:
    found = inventory(METADATA)  # raises for one that is not
    assert found["interactions"] == {
        "user": "user", "decoding": "text", "prompt": "text", "tools": "text", "error": "text",
    }  # fmt: skip
    assert found["votes"] == {"who": "account", "reason": "text"}
    assert "sessions" not in found


def test_an_unclassified_column_is_found() -> None:
    metadata = MetaData()
    Plain("notes", metadata, Column("id", String, primary_key=True, info={"personal": "none"}), Column("text", String))
    with pytest.raises(ValueError, match=r"notes\.text: does not say"):
        inventory(metadata)


def test_a_deletion_reaches_every_table_with_texts_of_people() -> None:
    with_texts = {name for name, columns in inventory(METADATA).items() if {"text", "user"} & set(columns.values())}
    reached = {table.name for table in dependents(REACHED)}
    assert {"votes", "leases", "interaction_feedback"} <= reached
    assert not {"users", "api_keys", "campaigns", "model_versions"} & reached
    assert with_texts <= reached, "a new table with texts needs a foreign key to these, or a rule in recording.erasure"
