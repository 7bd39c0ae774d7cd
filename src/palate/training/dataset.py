"""From a config to encoded groups: load, split, encode, and the pre-flight report on what will really be trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palate.config.run import RunConfig
from palate.data import LoadedData, load_records, split_records
from palate.records import AnyRecord, Messages, Record
from palate.text.encode import Encoded, EncodedGroup, encode_records
from palate.text.preflight import check_preflight, preflight_report, render_preflight
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

    @property
    def summary(self) -> str:
        """The report as a dozen lines for a terminal."""
        return render_preflight(self.report)


def build_data(config: RunConfig, record: type[Record], template: Template) -> RunData:
    """Load and encode the config's datasets for a method that reads `record`.

    Raises:
        DataError: a dataset cannot be read, or too little of it is left; one line with the counts.
    """
    loaded = [_load(config, config.dataset, record)]
    train_records, eval_records = loaded[0].records, []
    if config.eval_dataset is not None:
        loaded.append(_load(config, config.eval_dataset, record))
        eval_records = loaded[1].records
    elif config.val_size:
        train_records, eval_records = split_records(train_records, config.val_size, seed=config.seed)
    train = _encode(config, train_records, template)
    evaluation = _encode(config, eval_records, template)
    report = preflight_report(
        [source for part in loaded for source in part.sources],
        [row for part in loaded for row in part.dropped],
        [*train_records, *eval_records],
        {"train": train, "eval": evaluation} if eval_records else {"train": train},
        template,
        cutoff_len=config.cutoff_len,
    )
    check_preflight(report, max_dropped=config.max_dropped)
    asked = eval_records or train_records
    return RunData(train.groups, evaluation.groups, [row.prompt for row in asked if row.prompt], report)


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
