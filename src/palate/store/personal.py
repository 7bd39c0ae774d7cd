"""What the store's columns hold of a person: declared on each column that can hold text, read from the schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, cast

from sqlalchemy import JSON, Column, LargeBinary, MetaData, String
from sqlalchemy.orm import mapped_column

Personal: TypeAlias = Literal["none", "text", "user", "account"]
"""`text`: what a person wrote or was told; `user`: a keyed hash of the id of a user of the gateway; `account`: the
name of an account, or of a voter in a file; `none`: none of these (notes about models are an operator's own words)."""

PlainText: TypeAlias = Annotated[str, mapped_column(info={"personal": "none"})]
PersonalText: TypeAlias = Annotated[str, mapped_column(info={"personal": "text"})]
UserHash: TypeAlias = Annotated[str, mapped_column(info={"personal": "user"})]
AccountName: TypeAlias = Annotated[str, mapped_column(info={"personal": "account"})]
PlainJson: TypeAlias = Annotated[dict[str, Any], mapped_column(info={"personal": "none"})]
PlainList: TypeAlias = Annotated[list[Any], mapped_column(info={"personal": "none"})]
PersonalJson: TypeAlias = Annotated[dict[str, Any], mapped_column(info={"personal": "text"})]
PersonalList: TypeAlias = Annotated[list[Any], mapped_column(info={"personal": "text"})]
PersonalValue: TypeAlias = Annotated[Any, mapped_column(info={"personal": "text"})]

_CAN_HOLD_TEXT = (String, JSON, LargeBinary)


def personal(column: Column[Any]) -> Personal | None:
    """What a column holds of a person; None if it can hold text and does not say."""
    if "personal" in column.info:
        return cast(Personal, column.info["personal"])
    return None if isinstance(column.type, _CAN_HOLD_TEXT) else "none"


def inventory(metadata: MetaData) -> dict[str, dict[str, Personal]]:
    """Table → column → what it holds, of the columns that hold something of a person.

    Raises:
        ValueError: a column can hold text and does not say.
    """
    found: dict[str, dict[str, Personal]] = {}
    for table in metadata.sorted_tables:
        for column in table.columns:
            kind = personal(column)
            if kind is None:
                raise ValueError(f"{table.name}.{column.name}: does not say whether it is personal (info)")
            if kind != "none":
                found.setdefault(table.name, {})[column.name] = kind
    return found
