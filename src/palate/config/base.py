"""What all config classes share: frozen plain values, no unknown keys, no NaN."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Fields(BaseModel):
    """A topic of a run's config. A stage is a class that inherits the topics it uses."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,  # `run_name: 2024` means the text
        protected_namespaces=(),  # model_name_or_path is the field's name everywhere
    )

    def resolved(self) -> dict[str, Any]:
        """Every key with the value that holds, as plain JSON values: what `run.json` and `palate plan` show."""
        return self.model_dump(mode="json")
