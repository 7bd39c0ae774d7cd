"""The held-out pairs of a run, and the encoding of pairs for scoring."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from palate.config.load import config_from_values
from palate.data import load_records, split_records
from palate.errors import DataError, UsageError
from palate.evaluation.subject import RunSpec
from palate.records import DatasetRequest, Messages, PreferencePair, prompt_key
from palate.text.encode import encode_records
from palate.text.groups import EncodedGroup
from palate.text.template import Template
from palate.training.methods import build_method


def held_out_pairs(run: RunSpec) -> list[PreferencePair]:
    """The pairs that the run held out, with the same split.

    A run on rankings or labelled answers has split those; the result is then the pairs of their held-out prompts.

    Raises:
        UsageError: the run has no held-out data.
    """
    config = run.config
    if "rewards" in config:
        raise UsageError(f"{run.path}: the run answered prompts and held out no pairs; name pairs with --dataset")
    if config["eval_dataset"]:
        return _as_pairs(DatasetRequest.of_run(config, config["eval_dataset"]))
    if config["val_size"]:
        request = DatasetRequest.of_run(config, config["dataset"])
        mixture: dict[str, Any] = {"temperature": config.get("mix_temperature"), "caps": config.get("mix_caps")}
        kind = build_method(config_from_values(config, origin=str(run.path)).config).traits.record
        records = load_records(request, kind=kind, **mixture).records
        held_out = split_records(records, config["val_size"], seed=config["seed"])[1]
        if kind is PreferencePair:
            return cast("list[PreferencePair]", held_out)
        prompts = {prompt_key(record.prompt) for record in held_out}
        return [pair for pair in _as_pairs(request, **mixture) if prompt_key(pair.prompt) in prompts]
    raise UsageError(f"{run.path}: the run held nothing out; name pairs with --dataset")


def trained_prompts(run: RunSpec) -> list[Messages]:
    """The prompts of the rows that the run trained on, without those that it held out; plain text has none.

    Raises:
        DataError: the run's data cannot be read any more.
    """
    config = run.config
    request = DatasetRequest.of_run(config, config["dataset"])
    kind = build_method(config_from_values(config, origin=str(run.path)).config).traits.record
    mixture: dict[str, Any] = {"temperature": config.get("mix_temperature"), "caps": config.get("mix_caps")}
    records = load_records(request, kind=kind, **mixture).records
    if config.get("val_size") and not config.get("eval_dataset"):
        records = split_records(records, config["val_size"], seed=config["seed"])[0]
    return [record.prompt for record in records if record.prompt]


def _as_pairs(request: DatasetRequest, **mixture: Any) -> list[PreferencePair]:
    try:
        return load_records(request, kind=PreferencePair, **mixture).records
    except DataError as error:
        raise DataError(f"{error}; name pairs with --dataset") from error


def encode_pairs(pairs: list[PreferencePair], template: Template, cutoff_len: int) -> list[EncodedGroup]:
    """Encode pairs as groups; leaves out pairs that are too long or refused by the template.

    Raises:
        DataError: no pair is left; names the reasons.
    """
    encoded = encode_records(pairs, template, cutoff_len=cutoff_len)
    if not encoded.groups:
        reasons = ", ".join(f"{reason} {n}" for reason, n in Counter(row.reason for row in encoded.dropped).items())
        remedy = f"; raise --cutoff-len (now {cutoff_len})" if "too_long" in reasons else ""
        raise DataError(f"no pair can be scored: {reasons or 'there are none'}{remedy}")
    return list(encoded.groups)
