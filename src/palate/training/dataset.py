"""From a config to encoded groups: load, split, encode, and the pre-flight report on what will really be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palate.config.run import RunConfig
from palate.data import LoadedData, load_records, split_by_prompt
from palate.errors import DataError
from palate.records import AnyRecord, Messages, Record
from palate.text.encode import Encoded, EncodedGroup, encode_records
from palate.text.preflight import preflight_report
from palate.text.template import Template


@dataclass(frozen=True, slots=True)
class RunData:
    """What a run trains and evaluates on.

    Attributes:
        train: encoded training groups.
        evaluation: encoded held-out groups; empty where nothing is held out.
        prompts: the held-out conversations (or, without any, training ones), to sample answers for.
        report: the pre-flight report, for `data.json`.
    """

    train: list[EncodedGroup]
    evaluation: list[EncodedGroup]
    prompts: list[Messages]
    report: dict[str, Any]


def build_data(config: RunConfig, record: type[Record], template: Template) -> RunData:
    """Load and encode the config's datasets for a method that reads `record`.

    Raises:
        DataError: a dataset cannot be read, or too little of it is left; one line with the counts.
    """
    loaded = _load(config, config.dataset, record)
    train_records, eval_records = loaded.records, []
    held_out: LoadedData[Any] | None = None
    if config.eval_dataset is not None:
        held_out = _load(config, config.eval_dataset, record)
        eval_records = held_out.records
    elif config.val_size:
        train_records, eval_records = split_by_prompt(loaded.records, config.val_size, seed=config.seed)
    train = _encode(config, train_records, template)
    evaluation = _encode(config, eval_records, template)
    _refuse_loss(config, loaded, train)
    report = preflight_report(
        sources=[*loaded.sources, *(held_out.sources if held_out else [])],
        dropped=[*loaded.dropped, *(held_out.dropped if held_out else [])],
        train=train,
        evaluation=evaluation,
        template=template,
        cutoff_len=config.cutoff_len,
    )
    asked = eval_records or train_records
    return RunData(train.groups, evaluation.groups, [r.prompt for r in asked if r.prompt], report)


def _load(config: RunConfig, dataset: Any, record: type[Record]) -> LoadedData[Any]:
    return load_records(
        dataset,
        kind=record,
        dataset_dir=config.dataset_dir,
        columns=config.columns,
        max_samples=config.max_samples,
        max_dropped=config.max_dropped,
        seed=config.seed,
    )


def _encode(config: RunConfig, records: Sequence[AnyRecord], template: Template) -> Encoded:
    return encode_records(
        records,
        template,
        cutoff_len=config.cutoff_len,
        truncation=config.truncation,
        workers=config.preprocessing_num_workers,
    )


def _refuse_loss(config: RunConfig, loaded: LoadedData[Any], train: Encoded) -> None:
    """Refuse when encoding left nothing, or dropped more than the config allows."""
    reasons = ", ".join(sorted({row.reason for row in train.dropped}))
    if not train.groups:
        raise DataError(f"no rows are left to train on: all {len(loaded.records)} were dropped ({reasons})")
    read = len(loaded.records) + len(loaded.dropped)
    lost = len(loaded.dropped) + len(train.dropped)
    if lost > config.max_dropped * read:
        raise DataError(
            f"{lost} of {read} rows were dropped ({reasons}), more than max_dropped: {config.max_dropped} allows; "
            f"raise cutoff_len ({config.cutoff_len}) or max_dropped, or mend the rows"
        )
