"""What all config classes share: frozen plain values, no unknown keys, no NaN."""

from __future__ import annotations

from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

# The largest whole number that numpy takes as a seed and every library as a length.
MOST = 2**31 - 1


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

    @field_validator("*", mode="after")
    @classmethod
    def _whole_numbers_are_countable(cls, value: Any, field: ValidationInfo) -> Any:
        """Beyond this, seeds and lengths overflow in the middle of a run."""
        if isinstance(value, int) and abs(value) > MOST:
            raise ValueError(f"{field.field_name} must be at most {MOST}, not {value}")
        return value

    def resolved(self) -> dict[str, Any]:
        """Every key with the value that holds, as plain JSON values: what `run.json` and `palate plan` show."""
        return self.model_dump(mode="json")


def _is_number(annotation: Any) -> bool:
    """Whether a field takes numbers and no truth values."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return bool({int, float} & set(kinds)) and bool not in kinds
