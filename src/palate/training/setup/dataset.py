"""From a config to encoded groups: load, split, encode, and report what will be trained."""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from pydantic import TypeAdapter

from palate.artifacts import read_json, remove_folder, write_json
from palate.config.run import DpoConfig, RunConfig, SftConfig
from palate.config.stages.health import HealthFields
from palate.config.stages.preference import SampleFields
from palate.config.stages.rollout import RolloutFields
from palate.data.comparisons import ShareCounts
from palate.data.contract import lineage
from palate.data.formats.kinds import KIND_NAMES
from palate.data.formats.source_labels import check_labels_used
from palate.data.formats.table import all_formats
from palate.data.sources.spec import find_sources
from palate.data.stream import RecordStream
from palate.plugins import plugin_points
from palate.progress import Pass, progress
from palate.records import AnyRecord, DatasetRequest, Demonstration, Dropped, Record, SourceReport
from palate.text.encode import encode_batches
from palate.text.group_file import GroupFile, GroupWriter
from palate.text.groups import Encoded, EncodedCompletion, EncodedGroup, EncodingStats
from palate.text.preflight import check_preflight, preflight_report, render_preflight
from palate.text.prompts import encode_prompts
from palate.text.template import Template
from palate.training.methods.base import Method
from palate.training.methods.multi import ordered_by
from palate.training.setup.token_store import read_or_write, tokens_key, tokens_root

Files: TypeAlias = Sequence[Mapping[str, Any]]
"""The files of the run's datasets with their hashes (`data.contract.lineage`)."""

_FACTS = "facts.json"


@dataclass(frozen=True, slots=True)
class RunData:
    """Training and held-out groups of a run. They are in a file, but for the prompts of an online method.

    Attributes:
        train: encoded training groups.
        evaluation: encoded held-out groups; empty if nothing is held out.
        prompts: the first held-out records (without any, training records) with a prompt, to sample answers to.
        report: the pre-flight report, for `data.json`.
        facts: numbers of groups and of different prompts, and `identity`, 16 hexadecimal digits over all groups, their
            tokens and their order; for `run.json`.
        notices: warnings about the training groups.
        tokenised: the folder of an earlier run that the groups are read from; None if they were tokenised now.
    """

    train: Sequence[EncodedGroup]
    evaluation: Sequence[EncodedGroup]
    prompts: Sequence[Record]
    report: dict[str, Any]
    facts: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    tokenised: Path | None = None

    @property
    def summary(self) -> str:
        """The report as a dozen lines for a terminal."""
        reused = f"\ntokens    read from {self.tokenised}" if self.tokenised else ""
        return render_preflight(self.report) + reused


def build_data(config: RunConfig, method: Method[Any], template: Template) -> RunData:
    """Load and encode the config's datasets as the method trains on them.

    Rows are read and encoded a few at a time, and the groups are written to a folder that later runs read (see
    `token_store`). Online methods keep their prompts in memory, because rewards read the columns of their rows.

    Raises:
        DataError: a dataset cannot be read, or too many rows are dropped; one line with the counts.
        ArtifactError: the groups cannot be written.
    """
    files = [entry for request in _requests(config) for entry in lineage(find_sources(request))]
    if isinstance(config, RolloutFields):
        made = _encoded(config, method, template, files, None)
    else:
        key, reusable = _key(config, method, template, files)
        made, ready = read_or_write(key, lambda folder: _write(folder, config, method, template, files), _read)
        made = replace(made, tokenised=tokens_root() / key if ready else None)
        if not reusable:
            remove_folder(tokens_root() / key)  # the open files remain until this process ends
    check_preflight(made.report, max_dropped=config.max_dropped)
    train = method.arrange(made.train, seed=config.seed)
    held_out = method.arrange(made.evaluation, seed=config.seed).groups
    same = train.groups is made.train and held_out is made.evaluation
    facts = made.facts if same else _facts(train.groups, held_out)
    notices = (*_too_long(made.report), *train.notices)
    return replace(made, train=train.groups, evaluation=held_out, facts=facts, notices=notices)


def _too_long(report: Mapping[str, Any]) -> list[str]:
    """A warning if most of the records do not fit into `cutoff_len`."""
    over = report["over_length"]
    if over["share"] <= 0.5:
        return []
    return [
        f"warning: {over['records']:,} examples ({over['share']:.0%}) are longer than cutoff_len: "
        f"{report['cutoff_len']}, so they are shortened or left out; set cutoff_len: {2 * report['cutoff_len']} or more"
    ]


def _key(config: RunConfig, method: Method[Any], template: Template, files: Files) -> tuple[str, bool]:
    """The key of the config's tokenised rows, and whether a later run may use them."""
    # Rows of the hub, and the code of a plug-in, may change without notice.
    reusable = all(source["files"] for source in files) and not plugin_points("formats")
    mixed = config.mix_temperature is not None or config.mix_caps is not None or isinstance(config.dataset, Mapping)
    sft = config if isinstance(config, SftConfig) else None
    settings = {
        # The seed decides only which rows are drawn or held out.
        "requests": [replace(request, seed=0) for request in _requests(config)],
        "seed": config.seed if mixed or config.val_size else None,
        "sources": files,
        "mixture": [config.mix_temperature, config.mix_caps],
        "val_size": config.val_size,
        "record": method.traits.record.__name__,
        "dimension": config.dimension if isinstance(config, DpoConfig) else None,
        "trained": [sft.mask_history, sft.train_on_prompt] if sft else None,
        "cutoff_len": config.cutoff_len,
        "truncation": config.truncation,
        "prompts": _prompts_kept(config),
    }
    key = tokens_key(template, settings)
    return (key, True) if reusable else (f"{key}-{secrets.token_hex(4)}", False)


def _prompts_kept(config: RunConfig) -> int:
    """How many prompts samples and health checks may ask for."""
    samples = config.sample_prompts if isinstance(config, SampleFields) else 0
    return max(64, samples, config.health_prompts if isinstance(config, HealthFields) else 0)


def _write(folder: Path, config: RunConfig, method: Method[Any], template: Template, files: Files) -> None:
    made = _encoded(config, method, template, files, folder)
    prompts = [asdict(prompt) for prompt in made.prompts]
    write_json(folder / _FACTS, {"report": made.report, "facts": made.facts, "prompts": prompts})


def _read(folder: Path) -> RunData:
    """What `_write` wrote; raises ArtifactError if it is missing or damaged."""
    content = read_json(folder / _FACTS)
    prompts = TypeAdapter(list[Record]).validate_python(content["prompts"])
    evaluation = GroupFile(folder / "eval") if content["facts"]["eval_groups"] else []
    return RunData(GroupFile(folder / "train"), evaluation, prompts, content["report"], content["facts"])


def _encoded(config: RunConfig, method: Method[Any], template: Template, files: Files, folder: Path | None) -> RunData:
    """Both splits, not yet arranged; the groups are written to `folder`, or kept in memory without one."""
    requests, kind = _requests(config), method.traits.record
    columns = isinstance(config, RolloutFields)
    streams = [
        RecordStream(
            requests[0],
            kind,
            temperature=config.mix_temperature,
            caps=config.mix_caps,
            val_size=0.0 if config.eval_dataset is not None else config.val_size,
            keep_columns=columns,
        ),
        *(RecordStream(request, kind, keep_columns=columns) for request in requests[1:]),
    ]
    sources = [source for stream in streams for source in stream.sources]
    check_labels_used(sources, config.labels)
    origin, prompts = _Origin(), list[Record]()
    parts = {"train": (streams[0], False)}
    if config.eval_dataset is not None or config.val_size:
        parts["eval"] = (streams[-1], config.eval_dataset is None)
    encoded: dict[str, Encoded] = {}
    for split, (stream, held_out) in parts.items():
        records = stream.read(held_out=held_out)
        asked = prompts if split == [*parts][-1] else []
        with progress(f"tokenising ({split})", stream.count(held_out=held_out), delay=2.0) as done:
            seen = _seen(records, origin, split, asked, _prompts_kept(config), done)
            encoded[split] = _encode(config, seen, template, None if folder is None else folder / split)
    report = preflight_report(
        sources,
        [row for stream in streams for row in stream.dropped],
        sum(map(len, streams)),
        encoded,
        template,
        cutoff_len=config.cutoff_len,
        notices=_unread(sources) if columns else [],
    )
    report |= {"lineage": files, **origin.found()}
    groups = [encoded[split].groups if split in encoded else [] for split in ("train", "eval")]
    return RunData(groups[0], groups[1], prompts, report, _facts(*groups))


def _seen(
    records: Iterable[Record], origin: _Origin, split: str, prompts: list[Record], kept: int, done: Pass
) -> Iterator[Any]:
    """The records, while they are counted and the first prompts are kept."""
    for record in records:
        origin.add(record, trained=split == "train")
        if record.prompt and len(prompts) < kept:
            prompts.append(Record(id=record.id, prompt=record.prompt, source=record.source, tools=record.tools))
        yield record
        done.advance()


class _Origin:
    """Where records come from: who compared, and the ids of the votes and interactions that they were made from."""

    def __init__(self) -> None:
        self._shares = ShareCounts()
        self._rows: Counter[str] = Counter()
        self._ids: dict[str, set[str]] = {"votes": set(), "interactions": set()}

    def add(self, record: Record, *, trained: bool) -> None:
        if trained:
            self._shares.add(record)
        line = record.extra.get("lineage")
        if not isinstance(line, Mapping):
            return
        interactions = [line["interaction"]] if line.get("interaction") else []
        for key, ids in (("votes", line.get("votes") or ()), ("interactions", interactions)):
            self._rows[key] += bool(ids)
            self._ids[key].update(map(str, ids))

    def found(self) -> dict[str, Any]:
        """The entries of the report."""
        named = {key: {"rows": self._rows[key], "ids": sorted(ids)} for key, ids in self._ids.items() if ids}
        shares = [asdict(one) for one in self._shares.shares()]
        return {**named, **({"comparisons": shares} if shares else {})}


def _facts(train: Sequence[EncodedGroup], evaluation: Sequence[EncodedGroup]) -> dict[str, Any]:
    """Counts and identities of the groups, which are read once."""
    found: dict[str, Any] = {}
    both, own = hashlib.sha256(), hashlib.sha256()
    for name, groups in (("train", train), ("eval", evaluation)):
        own, prompts = hashlib.sha256(), array("Q")
        for digest in (both, own):
            digest.update(f"{len(groups)}:".encode())
        for group in groups:
            content = group.content_hash + repr((group.weight, group.labels)).encode()
            both.update(content)
            own.update(content)
            prompts.append(int.from_bytes(hashlib.blake2b(group.prompt_key, digest_size=8).digest()))
        found |= {f"{name}_groups": len(groups), f"{name}_prompts": len(np.unique(prompts))}
    found["identity"] = both.hexdigest()[:16]
    return {**found, "held_out_identity": own.hexdigest()[:16]} if evaluation else found


def _unread(sources: Sequence[SourceReport]) -> list[str]:
    """A line for each source that has more than prompts, because online methods train on the policy's own answers."""
    kinds = {form.name: form.kind for form in all_formats()}
    lines = []
    for source in sources:
        kind = kinds.get(source.format, Record)
        unread = source.unknown_columns if kind is Record else (f"the answers and scores of its {KIND_NAMES[kind]}",)
        if unread:
            lines.append(f"{source.name}: the policy answers its prompts; not trained on: {', '.join(unread)}")
    return lines


def _requests(config: RunConfig) -> list[DatasetRequest]:
    """The datasets to train on and, if one is named, to evaluate on."""
    asked = [config.dataset, *([] if config.eval_dataset is None else [config.eval_dataset])]
    return [DatasetRequest.of_run(config.resolved(), dataset) for dataset in asked]


def _encode(config: RunConfig, records: Iterable[Any], template: Template, folder: Path | None) -> Encoded:
    """The records as groups, in memory without a folder to write them to."""
    if folder is None:
        assert isinstance(config, RolloutFields)
        limit = config.cutoff_len - config.max_new_tokens
        return encode_prompts(list(records), template, limit=limit, truncation=config.truncation)
    done = Encoded([], [], [], EncodingStats())
    everything = isinstance(config, SftConfig) and config.train_on_prompt
    trained = _trained(config, records, done)
    with GroupWriter(folder) as writer:
        for part in encode_batches(trained, template, cutoff_len=config.cutoff_len, truncation=config.truncation):
            writer.extend(map(_all_trained, part.groups) if everything else part.groups)
            done = done.with_counts(part)
        return replace(done, groups=writer.close())


def _trained(config: RunConfig, records: Iterable[Any], done: Encoded) -> Iterator[AnyRecord]:
    """The records as the config trains on them; those that it cannot are added to the dropped ones."""
    for record in records:
        changed = record
        if isinstance(config, SftConfig):
            changed = _as_trained(record, config)
        elif isinstance(config, DpoConfig) and config.dimension is not None:
            changed = ordered_by(config.dimension, record)
        if isinstance(changed, Dropped):
            done.dropped.append(changed)
            done.source_of[changed.id] = record.source
        else:
            yield changed


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
