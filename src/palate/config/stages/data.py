"""The keys of the datasets, and of how rows become tokens."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from palate.config.base import Fields, setting
from palate.config.values import Dataset, Labels, PathText, RowCaps


class DataFields(Fields):
    """Data: datasets, their columns, chat template and length."""

    dataset: Dataset = setting(
        ...,
        "Training data: a file, folder, hub id, built-in name or a name in dataset_info.json; a list (or "
        "names with commas) of them; or a mapping of each to its weight in the mixture.",
    )
    dataset_dir: PathText | None = setting(
        "data", "Folder of dataset_info.json, if there is one, and of the dataset files that it names."
    )
    eval_dataset: Dataset | None = setting(None, "Held-out data, in the same forms as dataset.")
    columns: dict[str, str] | None = setting(
        None, "Names of your columns, as palate's name: yours, e.g. {prompt: question, chosen: good}."
    )
    labels: Labels | None = setting(
        None,
        "Meaning of each value in the label column, e.g. {0: response_1, 1: response_2, 2: tie}; desirable "
        "or undesirable for single answers; none drops the row. By default inferred from all values of a dataset.",
    )
    enable_thinking: bool | None = setting(
        None,
        "Passed to the chat template. With false, Qwen3's template writes an empty thinking block before each answer.",
        shown="the template's",
    )
    template: str | None = setting(None, "Chat template by name (qwen, chatml, llama3, …).", shown="the tokenizer's")
    cutoff_len: int = setting(2048, "Maximum length of prompt and answer together, in tokens.", ge=2)
    truncation: Literal["auto", "drop"] = setting(
        "auto",
        "Treatment of longer rows: auto removes the oldest turns, then the start of the prompt, and drops "
        "rows whose answers still do not fit; drop drops all longer rows.",
    )
    max_samples: int | None = setting(None, "Use only the first n rows of each dataset.", ge=1)
    mix_temperature: float | None = setting(
        None,
        "Mix several datasets in proportion to size^(1/T) instead of by weights: T = 1 keeps their "
        "proportions, a large T mixes them evenly.",
        shown="the weights of dataset, or all rows",
        gt=0,
    )
    mix_caps: RowCaps = setting(
        None, "Maximum number of records from a dataset, by its name or path, e.g. {hh.jsonl: 5000}."
    )
    val_size: float = setting(
        0.0, "Size of the held-out split, made by prompt: a share below 1, or a number of rows.", ge=0
    )
    max_dropped: float = setting(
        0.5,
        "Largest share of unusable rows, including ties and rows without a label; above it the run is refused.",
        ge=0,
        le=1,
    )

    @model_validator(mode="after")
    def _check_data(self) -> Any:
        if self.mix_temperature is not None and isinstance(self.dataset, dict):
            raise ValueError("mix_temperature and the weights of dataset both set the shares; keep one of them")
        if self.val_size and self.eval_dataset is not None:
            raise ValueError("val_size and eval_dataset both name held-out rows; keep one of them")
        if self.val_size >= 1 and self.val_size != int(self.val_size):
            raise ValueError(f"val_size must be a share below 1 or a whole number of rows, not {self.val_size}")
        return self
