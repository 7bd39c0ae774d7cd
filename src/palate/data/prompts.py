"""Prompts to answer: the conversation so far of every row of a dataset, whatever else the row has."""

from __future__ import annotations

from pathlib import Path

from palate.data.load import load_records
from palate.errors import DataError
from palate.records import Dropped, Record


def load_prompts(
    dataset: str, *, dataset_dir: str | Path | None = None, max_samples: int | None = None
) -> tuple[list[Record], list[Dropped]]:
    """The conversation up to the assistant's turn of each row, and the rows that have none.

    Rows are read as training reads them (`load_records` with `kind=Record`): mapped columns and tags of
    `dataset_info.json`, HH transcripts, and the prompt of every known format. The record's `extra` has every column of
    its row.

    Raises:
        DataError: the dataset cannot be read, or no row has a prompt.
    """
    loaded = load_records(
        dataset, kind=Record, dataset_dir=dataset_dir, max_samples=max_samples, max_dropped=1.0, keep_columns=True
    )
    prompts = [record for record in loaded.records if record.prompt]
    plain = [Dropped(record.id, "missing_prompt", "plain text") for record in loaded.records if not record.prompt]
    if not prompts:
        raise DataError(
            f"{dataset}: no row has a prompt, they are plain text; name a column: prompt, messages, question"
        )
    return prompts, [*loaded.dropped, *plain]
