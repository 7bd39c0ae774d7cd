"""What is trained on, and how rows become tokens."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from palate.config.base import Fields
from palate.config.paths import expand_keys
from palate.config.values import Dataset, Labels, PathText


class DataFields(Fields):
    """Datasets, their columns, template and length."""

    dataset: Dataset = Field(
        description="What to train on: a file, folder, hub id, built-in name or a name in dataset_info.json; a list "
        "(or names with commas) of them; or a mapping of each to its weight in the mixture.",
    )
    dataset_dir: PathText | None = Field(
        "data", description="Folder whose dataset_info.json, where there is one, names datasets; also of their files."
    )
    eval_dataset: Dataset | None = Field(None, description="Held-out data, in the same forms as dataset.")
    columns: dict[str, str] | None = Field(
        None, description="Own column names, as known name: column, e.g. {prompt: question, chosen: good}."
    )
    labels: Labels | None = Field(
        None,
        description="What values of the label column mean, e.g. {0: response_1, 1: response_2, 2: tie}; for one answer "
        "desirable or undesirable; none leaves the row out. Absent: found from all values of a dataset.",
    )
    enable_thinking: bool | None = Field(
        None,
        description="Passed to the chat template. With false, Qwen3's template writes an empty thinking block before "
        "each answer. Absent: the template's default.",
    )
    template: str | None = Field(
        None, description="Chat template by name (qwen, chatml, llama3, …). Absent: the tokenizer's own."
    )
    cutoff_len: int = Field(2048, ge=2, description="Longest prompt + completion, in tokens.")
    truncation: Literal["auto", "drop"] = Field(
        "auto",
        description="What happens to longer rows: auto removes the oldest turns, then the start of the prompt, and "
        "drops rows whose completions still do not fit; drop drops them at once.",
    )
    max_samples: int | None = Field(None, ge=1, description="Use only the first n rows of each dataset.")
    mix_temperature: float | None = Field(
        None,
        gt=0,
        description="Draw from several datasets in proportion to size^(1/T) instead of by weights: 1 as they are, "
        "large evenly. Absent: by the weights of dataset, or all rows.",
    )
    mix_caps: Annotated[dict[str, Annotated[int, Field(ge=1)]] | None, AfterValidator(expand_keys)] = Field(
        None, description="Most records to draw from a dataset, by its name or path, e.g. {hh.jsonl: 5000}."
    )
    val_size: float = Field(
        0.0, ge=0, description="Held-out part of dataset, split by prompt: a share below 1, or a number of rows."
    )
    max_dropped: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of rows, ties and rows without a label included, that may be unusable before the "
        "run is refused.",
    )

    @model_validator(mode="after")
    def _one_way_to_mix(self) -> Any:
        if self.mix_temperature is not None and isinstance(self.dataset, dict):
            raise ValueError("mix_temperature and the weights of dataset both set the shares; keep one of them")
        return self

    @model_validator(mode="after")
    def _one_source_of_held_out_rows(self) -> Any:
        if self.val_size and self.eval_dataset is not None:
            raise ValueError("val_size and eval_dataset both name held-out rows; keep one of them")
        if self.val_size >= 1 and self.val_size != int(self.val_size):
            raise ValueError(f"val_size must be a share below 1 or a whole number of rows, not {self.val_size}")
        return self
