"""The schema of a campaign: what people are asked, how often, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy.orm import Session

from palate.errors import DataError, StoreError
from palate.store.tables import Campaign, CampaignVersion

Order: TypeAlias = Literal["random", "uncertain", "disagreement"]

_LONGEST_NAME = 100
_KINDS = {str: "a text", float: "a number", int: "a whole number"}


@dataclass(frozen=True, slots=True)
class CampaignSchema:
    """What people are asked, how often, and in which order. A changed schema is a new version of the campaign.

    Attributes:
        criteria: what makes an answer better; the page shows it.
        tags: reasons that a person can choose.
        dimensions: names of scores that a person can give to each answer.
        votes_per_item: votes that each task gets, of different people (k).
        gold_share: share of the tasks given to each person whose answer is known.
        repeat_share: share that the person had before and gets again with sides swapped.
        order: random; uncertain (pairs with a small policy margin first); disagreement (pairs first on which judges, or
            the two orders of one judge, disagree).
        per_prompt: maximum number of answer pairs per prompt; None for all.
        lease_minutes: time for which a task is reserved for the person who has it.
        seed: of every random choice.
    """

    criteria: str = ""
    tags: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()
    votes_per_item: int = 1
    gold_share: float = 0.0
    repeat_share: float = 0.0
    order: Order = "random"
    per_prompt: int | None = None
    lease_minutes: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("votes_per_item", "lease_minutes", "per_prompt"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 100_000:
                raise DataError(f"{name}: {value} must be from 1 to 100,000")
        for name in ("gold_share", "repeat_share"):
            if not 0 <= getattr(self, name) < 1:  # also false for NaN
                raise DataError(f"{name}: {getattr(self, name)} must be a share, from 0 to below 1")
        if self.gold_share + self.repeat_share >= 1:
            raise DataError("gold_share and repeat_share: their sum must be below 1; no share is left for new tasks")
        if self.order not in get_args(Order):
            raise DataError(f"order: {self.order!r} is not one of {', '.join(get_args(Order))}")
        for name in ("tags", "dimensions"):
            _check_names(name, getattr(self, name))

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return {**asdict(self), "tags": list(self.tags), "dimensions": list(self.dimensions)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CampaignSchema:
        """The schema of a JSON object or of a YAML file's values; missing fields have their defaults.

        Raises:
            DataError: a key is unknown, or a value is of the wrong type or out of range; names the key.
        """
        known = {field.name: field.default for field in fields(cls)}
        for key in value:
            if key not in known:
                close = get_close_matches(str(key), known, n=1, cutoff=0.6)
                raise DataError(f"unknown key {key}; {f'did you mean {close[0]}?' if close else ', '.join(known)}")
        return cls(**{key: _read(key, given, known[key]) for key, given in value.items()})


def read_schema(session: Session, campaign: Campaign, version: int | None = None) -> CampaignSchema:
    """A version of the campaign's schema, by default the current one."""
    wanted = campaign.version if version is None else version
    row = session.get(CampaignVersion, (campaign.id, wanted))
    if row is None:
        raise StoreError(f"campaign {campaign.name} has no schema version {wanted}; the database is damaged")
    return CampaignSchema.from_json(row.schema)


def _read(key: str, value: Any, default: Any) -> Any:
    """A value of the type of the field `key`."""
    if key == "per_prompt" and value is None:
        return None
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
            raise DataError(f"{key}: {value!r} must be a list of texts")
        return tuple(value)
    kind = int if default is None else type(default)
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        raise DataError(f"{key}: {value!r} must be {_KINDS[kind]}")
    return kind(value)


def _check_names(key: str, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        if not name.strip() or len(name) > _LONGEST_NAME:
            raise DataError(f"{key}: {name[:30]!r} must have 1 to {_LONGEST_NAME} characters")
        if name in names[:number]:
            raise DataError(f"{key}: {name!r} is given twice")
