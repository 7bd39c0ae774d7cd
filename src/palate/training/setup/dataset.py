"""From a config to encoded groups: load, split, encode, and report what will be trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from palate.config.run import DpoConfig, RunConfig, SftConfig
from palate.config.stages.rollout import RolloutFields
from palate.data import LoadedData, load_records, split_records
from palate.data.comparisons import source_shares
from palate.data.contract import lineage
from palate.data.formats.kinds import KIND_NAMES
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.table import all_formats
from palate.data.sources.spec import find_sources
from palate.records import AnyRecord, DatasetRequest, Demonstration, Dropped, Record
from palate.text.encode import Encoded, EncodedCompletion, EncodedGroup, encode_records
from palate.text.preflight import check_preflight, preflight_report, render_preflight
from palate.text.prompts import encode_prompts
from palate.text.template import Template
from palate.training.methods.base import Method
from palate.training.methods.multi import ordered_by
from palate.training.setup.environment import is_main_process


@dataclass(frozen=True, slots=True)
class RunData:
    """Training and held-out groups of a run.

    Attributes:
        train: encoded training groups.
        evaluation: encoded held-out groups; empty if nothing is held out.
        prompts: held-out records (without any, training records) to sample answers to their prompts.
        report: the pre-flight report, for `data.json`.
        notices: warnings about the training groups.
    """

    train: list[EncodedGroup]
    evaluation: list[EncodedGroup]
    prompts: Sequence[Record]
    report: dict[str, Any]
    notices: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The report as a dozen lines for a terminal."""
        return render_preflight(self.report)

    @property
    def prompts_trained(self) -> int:
        """Different prompts among the training groups."""
        return len({group.prompt_key for group in self.train})

    @property
    def prompts_evaluated(self) -> int:
        """Different prompts among the held-out groups."""
        return len({group.prompt_key for group in self.evaluation})

    @property
    def identity(self) -> str:
        """16 hexadecimal digits over all groups, their tokens and their order."""
        return _identity(self.train, self.evaluation)

    def facts(self) -> dict[str, Any]:
        """Counts and identities for `run.json`."""
        return {
            "train_groups": len(self.train),
            "train_prompts": self.prompts_trained,
            "eval_groups": len(self.evaluation),
            "eval_prompts": self.prompts_evaluated,
            "identity": self.identity,
            **({"held_out_identity": _identity(self.evaluation)} if self.evaluation else {}),
        }


def _identity(*parts: Sequence[EncodedGroup]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:".encode())
        for group in part:
            digest.update(group.content_hash)
            digest.update(repr((group.weight, group.labels)).encode())
    return digest.hexdigest()[:16]


def build_data(config: RunConfig, method: Method[Any], template: Template) -> RunData:
    """Load and encode the config's datasets as the method trains on them.

    Raises:
        DataError: a dataset cannot be read, or too many rows are dropped; one line with the counts.
    """
    mixture = {"temperature": config.mix_temperature, "caps": config.mix_caps}
    loaded = [_load(config, config.dataset, method.traits.record, **mixture)]
    train_records, eval_records = loaded[0].records, []
    if config.eval_dataset is not None:
        loaded.append(_load(config, config.eval_dataset, method.traits.record))
        eval_records = loaded[1].records
    elif config.val_size:
        train_records, eval_records = split_records(train_records, config.val_size, seed=config.seed)
    check_labels_used([source for part in loaded for source in part.sources], config.labels)
    train = _encode(config, train_records, template)
    evaluation = _encode(config, eval_records, template)
    report = preflight_report(
        [source for part in loaded for source in part.sources],
        [row for part in loaded for row in part.dropped],
        [*train_records, *eval_records],
        {"train": train, "eval": evaluation} if eval_records else {"train": train},
        template,
        cutoff_len=config.cutoff_len,
        notices=_unread(loaded) if isinstance(config, RolloutFields) else [],
    )
    check_preflight(report, max_dropped=config.max_dropped)
    if is_main_process():  # which writes the report
        report |= _origin(config, [*train_records, *eval_records])
        if shares := source_shares(train_records):
            report["comparisons"] = [asdict(one) for one in shares]
    asked = eval_records or train_records
    arranged = method.arrange(train.groups, seed=config.seed)
    held_out = method.arrange(evaluation.groups, seed=config.seed).groups
    return RunData(arranged.groups, held_out, [row for row in asked if row.prompt], report, arranged.notices)


def _origin(config: RunConfig, records: Sequence[Record]) -> dict[str, Any]:
    """The datasets' files with their hashes, and the ids of the votes and interactions that the rows were made from."""
    asked = [config.dataset, *([] if config.eval_dataset is None else [config.eval_dataset])]
    requests = [DatasetRequest.of_run(config.resolved(), dataset) for dataset in asked]
    found: dict[str, Any] = {"lineage": [entry for one in requests for entry in lineage(find_sources(one))]}
    lines = [line for record in records if isinstance(line := record.extra.get("lineage"), Mapping)]
    named = {"votes": [line.get("votes") or () for line in lines]}
    named["interactions"] = [(line["interaction"],) if line.get("interaction") else () for line in lines]
    for key, of_rows in named.items():
        if ids := sorted({str(one) for of_row in of_rows for one in of_row}):
            found[key] = {"rows": sum(bool(of_row) for of_row in of_rows), "ids": ids}
    return found


def _unread(loaded: Sequence[LoadedData[Any]]) -> list[str]:
    """A line for each source that has more than prompts, because online methods train on the policy's own answers."""
    kinds = {form.name: form.kind for form in all_formats()}
    lines = []
    for source in (source for part in loaded for source in part.sources):
        kind = kinds.get(source.format, Record)
        unread = source.unknown_columns if kind is Record else (f"the answers and scores of its {KIND_NAMES[kind]}",)
        if unread:
            lines.append(f"{source.name}: the policy answers its prompts; not trained on: {', '.join(unread)}")
    return lines


def _load(config: RunConfig, dataset: Any, record: type[Record], **mixture: Any) -> LoadedData[Any]:
    request = DatasetRequest.of_run(config.resolved(), dataset)
    return load_records(request, kind=record, keep_columns=isinstance(config, RolloutFields), **mixture)


def _encode(config: RunConfig, records: Sequence[Any], template: Template) -> Encoded:
    if isinstance(config, RolloutFields):
        limit = config.cutoff_len - config.max_new_tokens
        return encode_prompts(records, template, limit=limit, truncation=config.truncation)
    sft = config if isinstance(config, SftConfig) else None
    if sft is not None:
        records = [_as_trained(record, sft) for record in records]
    if isinstance(config, DpoConfig) and config.dimension is not None:
        records = [ordered_by(config.dimension, record) for record in records]
    encoded = encode_records(
        [record for record in records if not isinstance(record, Dropped)],
        template,
        cutoff_len=config.cutoff_len,
        truncation=config.truncation,
    )
    if sft is not None and sft.train_on_prompt:
        encoded = replace(encoded, groups=[_all_trained(group) for group in encoded.groups])
    refused = [record for record in records if isinstance(record, Dropped)]
    return replace(encoded, dropped=[*refused, *encoded.dropped]) if refused else encoded


def _as_trained(record: AnyRecord, config: SftConfig) -> AnyRecord | Dropped:
    """A demonstration as `mask_history` and `train_on_prompt` want it; a row with contrary flags is dropped."""
    if not isinstance(record, Demonstration):
        return record
    if config.train_on_prompt and not all(message.trained for message in (*record.prompt, *record.completion)):
        return Dropped(record.id, "not_trained", "train_on_prompt trains every turn, but the row marks one as context")
    if not config.mask_history or len(record.completion) == 1:
        return record
    *history, answer = record.completion
    if not answer.trained:
        return Dropped(record.id, "not_trained", "mask_history trains the last answer, which the row marks as context")
    return replace(record, prompt=(*record.prompt, *history), completion=(answer,))


def _all_trained(group: EncodedGroup) -> EncodedGroup:
    """The group with its prompt as part of its one completion; every token but the first trains."""
    (completion,) = group.completions
    ids = np.concatenate([group.prompt_ids, completion.ids])
    trained = np.ones(len(ids), dtype=np.bool_)
    trained[:1] = False  # there is no token before it to predict it from
    return replace(group, prompt_ids=group.prompt_ids[:0], completions=(EncodedCompletion(ids, trained),))
