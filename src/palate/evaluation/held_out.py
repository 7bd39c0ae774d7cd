"""The pairs to evaluate on: a dataset that is named, or what a run held out."""

from __future__ import annotations

from typing import Any

from palate.data import load_records, split_records
from palate.errors import DataError, UsageError
from palate.evaluation.subject import RunSpec
from palate.records import PreferencePair
from palate.text.encode import EncodedGroup, encode_records
from palate.text.template import Template


def load_pairs(dataset: Any, **how: Any) -> list[PreferencePair]:
    """All usable pairs of a dataset; `how` as `data.load_records` takes it."""
    return load_records(dataset, kind=PreferencePair, **how).records


def held_out_pairs(run: RunSpec) -> list[PreferencePair]:
    """What the run evaluated on, split as it was then.

    Raises:
        UsageError: the run held nothing out.
    """
    config = run.config
    keys = ("dataset_dir", "columns", "max_samples", "max_dropped", "seed")
    common = {key: config[key] for key in keys}
    if config["eval_dataset"]:
        return load_pairs(config["eval_dataset"], **common)
    if config["val_size"]:
        records = load_pairs(config["dataset"], **common)
        return split_records(records, config["val_size"], seed=config["seed"])[1]
    raise UsageError(f"{run.path}: the run held nothing out; name pairs with --dataset")


def encode_pairs(pairs: list[PreferencePair], template: Template, cutoff_len: int) -> list[EncodedGroup]:
    """Pairs as groups; those that do not fit are left out.

    Raises:
        DataError: none fits.
    """
    encoded = encode_records(pairs, template, cutoff_len=cutoff_len)
    if not encoded.groups:
        raise DataError(f"none of the {len(pairs)} pairs fits into {cutoff_len} tokens")
    return encoded.groups
