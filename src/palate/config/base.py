"""The base class of all config classes: frozen plain values, no unknown keys, no NaN."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

# The largest seed that numpy accepts, and the largest length that every library does.
MAX_INT = 2**31 - 1

_TRUTH_VALUES = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


def truth(value: Any) -> bool | None:
    """True or false for a truth value and for a word that means one; None for anything else."""
    if isinstance(value, bool):
        return value
    return _TRUTH_VALUES.get(value.lower()) if isinstance(value, str) else None


class Fields(BaseModel):
    """Config keys of one topic. The config class of a stage inherits the topics that the stage uses."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # `run_name: 2024` is text
        protected_namespaces=(),  # model_name_or_path is the usual name
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_truth_values(cls, value: Any, field: ValidationInfo) -> Any:
        """`no` and `on` are truth values where the field is a switch; true is not a number, as it is in Python."""
        types = plain_types(cls.model_fields[str(field.field_name)].annotation)
        if bool in types:
            switch = truth(value)
            return value if switch is None else switch
        if isinstance(value, bool) and {int, float} & types:
            raise ValueError(f"{field.field_name} must be a number, not {str(value).lower()}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _check_size(cls, value: Any, field: ValidationInfo) -> Any:
        """Larger seeds and lengths would overflow during the run."""
        if isinstance(value, int) and abs(value) > MAX_INT:
            raise ValueError(f"{field.field_name} must be at most {MAX_INT}, not {value}")
        return value

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, given or default, as JSON values: the content of `run.json` and `palate plan`."""
        return self.model_dump(mode="json")


def setting(default: Any, meaning: str, *, shown: str | None = None, **rules: Any) -> Any:
    """A key of a config, as `pydantic.Field`.

    Args:
        default: `...` for a required key; a function gets the values of the keys before it.
        meaning: one or two sentences for docs/config.md and editors.
        shown: the default in words, where the value alone does not tell it.
        rules: `ge`, `lt`, `min_length` …
    """
    if shown is not None:
        rules["json_schema_extra"] = {"default": shown}
    made = {"default_factory": default} if callable(default) else {"default": default}
    return Field(**made, description=meaning, **rules)


def plain_types(annotation: Any) -> set[Any]:
    """The types of a union, without `Annotated`."""
    if get_origin(annotation) is Annotated:
        return plain_types(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return {kind for part in get_args(annotation) for kind in plain_types(part)}
    return {annotation}
