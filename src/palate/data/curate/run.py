"""Rules over a dataset in two passes, so that no text stays in memory; any number of processes gives one result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from palate.artifacts.files import write_text
from palate.artifacts.folders import atomic_folder
from palate.data.card import rows_file
from palate.data.contract import write_contract
from palate.data.curate.base import Candidate, RowRule, Rule, SetRule
from palate.data.curate.funnel import Step, funnel_figure
from palate.data.curate.rules import PRESETS, RULES
from palate.data.load import DatasetSpec, SourceReader, SourceReport, find_sources
from palate.data.measures.pairs import Measures, measure
from palate.data.parallel import ordered_map
from palate.data.rows import RatedAnswers, Reading
from palate.data.sources import Source
from palate.data.targets import palate_row
from palate.data.writers import write_rows
from palate.errors import ConfigError, DataError
from palate.records import Dropped, PreferencePair, Record

KEPT, REJECTED = "kept.jsonl", "rejected.jsonl"
_KEYS = ("preset", "without", "rules")


@dataclass(frozen=True, slots=True)
class Curation:
    """What a curation did.

    Attributes:
        output: the folder with kept.jsonl, rejected.jsonl, funnel.svg and data.json.
        steps: the funnel, from what reading left out to the last rule.
        kept: rows kept.
        sources: what was read.
    """

    output: Path
    steps: tuple[Step, ...]
    kept: int
    sources: tuple[SourceReport, ...]


def curate(
    dataset: DatasetSpec,
    output: str | Path,
    rules: Sequence[Rule],
    *,
    dataset_dir: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    subset: str | None = None,
    max_samples: int | None = None,
    reading: Reading | None = None,
    workers: int = 1,
) -> Curation:
    """Applies rules in order and writes what is kept and what is not.

    Args:
        dataset, dataset_dir, columns, split, subset, max_samples, reading: as in `load_records`.
        output: folder to write; one that an earlier curation wrote is replaced, any other is refused.
        rules: as `read_rules` gives them.
        workers: processes that measure rows.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or (any(output.iterdir()) and rows_file(output) is None)):
        raise DataError(f"{output} is there already and was not written by palate data; choose another name")
    sources = find_sources(dataset, dataset_dir=dataset_dir, split=split, subset=subset)
    data = _Data(sources, columns, max_samples, reading or Reading())
    verdicts, candidates, unread = _first_pass(data, rules, workers)
    steps = [Step("read", "", len(candidates) + unread, unread)]
    out = _apply(rules, verdicts, candidates, steps)
    kept = len(candidates) - len(out)
    if not kept:
        last = max(steps, key=lambda step: step.left_out)
        raise DataError(f"no row is kept; most were left out by {last.rule} ({last.left_out:,} of {last.before:,})")
    reports: list[SourceReport] = []
    with atomic_folder(output) as folder:
        write_rows(folder / KEPT, _kept_rows(data, out, reports))
        write_rows(folder / REJECTED, _rejected_rows(data, out))
        write_text(folder / "funnel.svg", funnel_figure(steps, f"{kept:,} rows kept"))
        write_contract(
            folder / "data.json",
            how="curate",
            files={"rows": folder / KEPT, "rejected": folder / REJECTED},
            counts={"kept": kept, "left_out": {step.rule: step.left_out for step in steps if step.left_out}},
            sources=sources,
            options={"rules": [{rule.name: rule.model_dump()} for rule in rules]},
            reports=reports,
        )
    return Curation(output, tuple(steps), kept, tuple(reports))


def read_rules(config: str | Path | Mapping[str, Any] | None = None, *, preset: str | None = None) -> list[Rule]:
    """Rules of a YAML file (or its content), of a preset, or of both.

    The file has `preset:` to start from, `without:` rules of it to leave out, and `rules:`, a list of names or of
    `name: {threshold: value}`; a rule that the preset has already is replaced in its place.
    """
    where, content = _content(config)
    unknown = next((key for key in content if key not in _KEYS), None)
    if unknown is not None:
        raise ConfigError(f"{where}: unknown key {unknown!r}; known are {', '.join(_KEYS)}")
    chosen = content.get("preset") or preset
    if chosen is not None and chosen not in PRESETS:
        raise ConfigError(f"{where}: unknown preset {chosen!r}; known are {', '.join(PRESETS)}")
    found: dict[str, Rule] = {}
    for entry in [*(PRESETS[chosen] if chosen else ()), *_entries(content.get("rules"), where)]:
        ((name, settings),) = entry.items()
        found[name] = _rule(name, settings, where)
    for name in _names(content.get("without"), where):
        if name not in found:
            raise ConfigError(f"{where}: without names {name!r}, which is not among the rules")
        del found[name]
    if not found:
        raise ConfigError(f"{where}: no rules; name a preset ({', '.join(PRESETS)}) or list rules")
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Data:
    """The dataset, read anew for each pass."""

    sources: Sequence[Source]
    columns: Mapping[str, str] | None
    max_samples: int | None
    reading: Reading

    def items(self, reports: list[SourceReport] | None = None) -> Iterator[tuple[Record | Dropped, Any]]:
        """(record or dropped, the raw row) in the order of the files."""
        for source in self.sources:
            reader = self._reader(source)
            for item in reader:
                yield item, reader.row
            if reports is not None:
                reports.append(reader.report())

    def _reader(self, source: Source) -> SourceReader[Record]:
        options: dict[str, Any] = {
            "columns": self.columns,
            "max_samples": self.max_samples,
            "reading": self.reading,
        }
        reader: SourceReader[Record] = SourceReader(source, None, **options)
        if reader.format.format.kind is RatedAnswers:  # rules are about pairs; `reading` says how ratings become them
            reader = SourceReader(source, PreferencePair, **options)
        return reader


_Verdict = tuple[int, str]
"""Index of the first rule that a row fails and why; (-1, "") for none."""


def _first_pass(data: _Data, rules: Sequence[Rule], workers: int) -> tuple[list[_Verdict], list[Candidate], int]:
    light = [(index, rule) for index, rule in enumerate(rules) if isinstance(rule, RowRule) and not rule.heavy]
    heavy = [(index, rule) for index, rule in enumerate(rules) if isinstance(rule, RowRule) and rule.heavy]
    unread = 0

    def records() -> Iterator[Record]:
        nonlocal unread
        for item, _ in data.items():
            if isinstance(item, Dropped):
                unread += 1
            else:
                yield item

    verdicts: list[_Verdict] = []
    candidates: list[Candidate] = []
    for record, (measures, verdict) in ordered_map(partial(_judge, tuple(light)), records(), workers):
        for index, rule in heavy:
            if verdict[0] < 0 or index < verdict[0]:
                detail = rule.fails(record, measures)
                verdict = (index, detail) if detail else verdict
        verdicts.append(verdict)
        candidates.append(Candidate(measures, record.margin if isinstance(record, PreferencePair) else None))
    return verdicts, candidates, unread


def _judge(rules: tuple[tuple[int, RowRule], ...], record: Record) -> tuple[Measures, _Verdict]:
    measures = measure(record)
    for index, rule in rules:
        detail = rule.fails(record, measures)
        if detail:
            return measures, (index, detail)
    return measures, (-1, "")


def _apply(
    rules: Sequence[Rule], verdicts: Sequence[_Verdict], candidates: Sequence[Candidate], steps: list[Step]
) -> dict[int, tuple[str, str]]:
    """Per record left out its rule and the detail; adds a step for every rule."""
    alive = list(range(len(candidates)))
    out: dict[int, tuple[str, str]] = {}
    for number, rule in enumerate(rules):
        if isinstance(rule, SetRule):
            found = {alive[i]: why for i, why in rule.leaves_out([candidates[index] for index in alive]).items()}
        else:
            found = {index: verdicts[index][1] for index in alive if verdicts[index][0] == number}
        out.update((index, (rule.name, why)) for index, why in found.items())
        steps.append(Step(rule.name, _settings(rule), len(alive), len(found)))
        alive = [index for index in alive if index not in found]
    return out


def _kept_rows(
    data: _Data, out: Mapping[int, tuple[str, str]], reports: list[SourceReport]
) -> Iterator[Mapping[str, Any]]:
    index = 0
    for item, _ in data.items(reports):
        if not isinstance(item, Dropped):
            if index not in out:
                yield palate_row(item) | {"origin": item.id}
            index += 1


def _rejected_rows(data: _Data, out: Mapping[int, tuple[str, str]]) -> Iterator[Mapping[str, Any]]:
    index = 0
    for item, row in data.items():
        if isinstance(item, Dropped):
            raw = {"row": row} if isinstance(row, Mapping | list | str | int | float) else {}
            yield {"origin": item.id, "rejected_by": item.reason, "detail": item.detail, **raw}
        else:
            if index in out:
                rule, detail = out[index]
                yield palate_row(item) | {"origin": item.id, "rejected_by": rule, "detail": detail}
            index += 1


def _settings(rule: Rule) -> str:
    values = rule.model_dump()
    shown = (f"{name} {len(value)}" if isinstance(value, tuple) and len(value) > 4 else f"{name} {_value(value)}"
             for name, value in values.items())  # fmt: skip
    return ", ".join(shown)


def _value(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _content(config: str | Path | Mapping[str, Any] | None) -> tuple[str, Mapping[str, Any]]:
    if config is None or isinstance(config, Mapping):
        return "rules", config or {}
    path = Path(config)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())[:160]}") from None
    if isinstance(content, list):
        content = {"rules": content}
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: must have preset: or rules:")
    return str(path), content


def _entries(rules: Any, where: str) -> list[Mapping[str, Any]]:
    if rules is None:
        return []
    if isinstance(rules, Mapping):
        return [{name: settings} for name, settings in rules.items()]
    if not isinstance(rules, list):
        raise ConfigError(f"{where}: rules must be a list of names or of name: {{threshold: value}}")
    entries: list[Mapping[str, Any]] = []
    for rule in rules:
        if isinstance(rule, str):
            entries.append({rule: {}})
        elif isinstance(rule, Mapping) and len(rule) == 1:
            entries.append(rule)
        else:
            raise ConfigError(f"{where}: a rule is a name or one name: {{threshold: value}}, not {rule!r}")
    return entries


def _names(names: Any, where: str) -> list[str]:
    if names is None:
        return []
    if isinstance(names, str):
        return [names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}: without must be a list of rules")
    return list(names)


def _rule(name: Any, settings: Any, where: str) -> Rule:
    kind = RULES.get(name)
    if kind is None:
        near = get_close_matches(str(name), RULES, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(RULES)}"
        raise ConfigError(f"{where}: there is no rule {name!r}{hint}")
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f"{where}: {name} must be followed by {{threshold: value}}, not {settings!r}")
    try:
        return kind(**{str(key): value for key, value in (settings or {}).items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(kind.model_fields) or "no thresholds"
            raise ConfigError(f"{where}: {name} has no threshold {key!r}; it has {known}") from None
        raise ConfigError(f"{where}: {name}.{key}: {first['msg']}") from None
