"""What all config classes share: frozen plain values, no unknown keys, no NaN."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

# The largest whole number that numpy takes as a seed and every library as a length.
MAX_INT = 2**31 - 1

_SWITCH = {"yes": True, "on": True, "no": False, "off": False, "true": True, "false": False}


def truth(value: Any) -> bool | None:
    """True or false for a truth value and for the words that mean one; None for anything else."""
    if isinstance(value, bool):
        return value
    return _SWITCH.get(value.lower()) if isinstance(value, str) else None


class Fields(BaseModel):
    """A topic of a run's config. A stage is a class that inherits the topics it uses."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # `run_name: 2024` means the text
        protected_namespaces=(),  # model_name_or_path is the field's name everywhere
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, field: ValidationInfo) -> Any:
        """Python counts true as 1, and `seed: true` is a mistake."""
        if isinstance(value, bool) and _is_number(cls.model_fields[str(field.field_name)].annotation):
            raise ValueError(f"{field.field_name} must be a number, not {str(value).lower()}")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _switches_take_words(cls, value: Any, field: ValidationInfo) -> Any:
        """`resume_from_checkpoint: no` is no path called "no"."""
        switch = truth(value)
        takes = bool in _kinds(cls.model_fields[str(field.field_name)].annotation)
        return switch if takes and switch is not None else value

    @field_validator("*", mode="after")
    @classmethod
    def _whole_numbers_are_countable(cls, value: Any, field: ValidationInfo) -> Any:
        """Beyond this, seeds and lengths overflow in the middle of a run."""
        if isinstance(value, int) and abs(value) > MAX_INT:
            raise ValueError(f"{field.field_name} must be at most {MAX_INT}, not {value}")
        return value

    def resolved(self) -> dict[str, Any]:
        """Every key with the value that holds, as plain JSON values: what `run.json` and `palate plan` show."""
        return self.model_dump(mode="json")


def _is_number(annotation: Any) -> bool:
    """Whether a field takes numbers and no truth values."""
    kinds = _kinds(annotation)
    return bool({int, float} & kinds) and bool not in kinds


def _kinds(annotation: Any) -> set[Any]:
    """The types of a union, without what only annotates them."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in _kinds(part)}
    return {annotation}
