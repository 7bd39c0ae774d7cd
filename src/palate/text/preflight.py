"""The report before training: every row that was read, used, dropped or shortened, and token counts."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from palate.charts.text import amount
from palate.errors import DataError
from palate.records import Dropped, SourceReport
from palate.text.groups import Encoded, EncodedGroup, EncodingStats
from palate.text.template import Template


def preflight_report(
    sources: Sequence[SourceReport],
    dropped: Sequence[Dropped],
    records: int,
    encoded: Mapping[str, Encoded],
    template: Template,
    *,
    cutoff_len: int | None = None,
    notices: Sequence[str] = (),
) -> dict[str, Any]:
    """The contents of `data.json`.

    Args:
        dropped: rows that did not become records.
        records: number of records of all splits before encoding.

    Raises:
        DataError: a row or a record is neither used nor dropped.
    """
    _check_balance(sources, records, encoded)
    lost = [row for part in encoded.values() for row in part.dropped]
    cuts = [cut for part in encoded.values() for cut in part.cuts]
    over = sum(part.stats.over_length for part in encoded.values())
    source_of = {name: source for part in encoded.values() for name, source in part.source_of.items()}
    shown = next((part.groups[0] for part in encoded.values() if part.groups), None)
    return {
        "rows": {
            "read": sum(source.rows_read for source in sources),
            "used": sum(source.used for source in sources),
            "dropped": sum(sum(source.dropped_by_reason.values()) for source in sources),
        },
        "records": {
            "made": sum(source.records for source in sources),
            "not_selected": sum(source.records for source in sources) - records,
            "used": sum(len(part.groups) for part in encoded.values()),
            "dropped": len(lost),
            "cut": len(cuts),
        },
        "sources": {source.name: _source(source, lost, cuts, source_of) for source in sources},
        "dropped_by_reason": _reasons(sources, lost),
        "cutoff_len": cutoff_len,
        "over_length": {"records": over, "share": over / records if records else 0.0},
        "tokens": {split: token_statistics(part.groups) for split, part in encoded.items()},
        "template": _template(template, encoded),
        **({"notices": list(notices)} if notices else {}),
        "example": None if shown is None else example(shown, template),
        "cuts": [asdict(cut) for cut in cuts],
        "dropped": [
            {**asdict(row), "stage": stage} for stage, rows in (("data", dropped), ("text", lost)) for row in rows
        ],
    }


_EXPLAINED = frozenset({"template_refused", "not_trained"})
"""Reasons whose detail says what to do."""
_OF_ORIGIN = frozenset({"lineage", "source", "source_kind", "source_weight"})
"""Columns that no example holds, but that the report tells the origin of the examples from."""


def check_preflight(report: Mapping[str, Any], *, max_dropped: float = 0.5) -> None:
    """Stop a run that lost most of its data.

    Args:
        max_dropped: largest share of the records, 0 to 1, that encoding may drop.

    Raises:
        DataError: nothing is left, or more than `max_dropped` of the records were dropped.
    """
    used, lost = report["records"]["used"], report["records"]["dropped"]
    counts = Counter(row["reason"] for row in report["dropped"] if row["stage"] == "text")
    reasons = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    remedy = f"; raise cutoff_len (now {report['cutoff_len']})" if counts["too_long"] * 2 >= lost > 0 else ""
    # If most rows were dropped for one of these reasons, the first row's detail says what to do.
    first = _first_dropped(report, _EXPLAINED)
    if first is not None and counts[first["reason"]] * 2 >= lost:
        remedy += f"; {first['id']}: {first['detail']}"
    if not used:
        raise DataError(f"nothing is left to train on; dropped: {reasons or 'none'}{remedy}")
    if lost > max_dropped * (used + lost):
        raise DataError(
            f"{lost} of {used + lost} records were dropped ({reasons}), more than max_dropped {max_dropped:g} allows"
            f"{remedy or '; data.json lists them'}"
        )


def _first_dropped(report: Mapping[str, Any], reasons: frozenset[str]) -> Mapping[str, Any] | None:
    """The first record that encoding dropped for one of these reasons."""
    return next((row for row in report["dropped"] if row["stage"] == "text" and row["reason"] in reasons), None)


def token_statistics(groups: Sequence[EncodedGroup]) -> dict[str, Any]:
    """Lengths in tokens (min, median, p95, max, total) of prompts and completions, and numbers of trained tokens.

    `packed` counts every prompt once, `repeated` once per completion.
    """
    if not groups:
        return {"groups": 0}
    # Read once: the groups may be in a file.
    prompts, rows, lengths = (array("i") for _ in range(3))
    sizes = set()
    trained = packed = repeated = 0
    for group in groups:
        own = [len(completion.ids) for completion in group.completions]
        prompts.append(len(group.prompt_ids))
        rows.append(group.longest_row)
        sizes.add(len(own))
        lengths.extend(own)
        trained += int(sum(completion.trained.sum() for completion in group.completions))
        packed += group.packed_tokens
        repeated += group.packed_tokens + len(group.prompt_ids) * max(len(own) - 1, 0)
    if sizes == {2}:
        completions = {"chosen": _lengths(lengths[::2]), "rejected": _lengths(lengths[1::2])}
    else:
        completions = {"completion": _lengths(lengths)} if lengths else {}
    return {
        "groups": len(groups),
        "prompt": _lengths(prompts),
        **completions,
        "row": _lengths(rows),
        "trained": trained,
        "packed": packed,
        "repeated": repeated,
        "saved_by_shared_prompt": 1 - packed / repeated,
    }


def example(group: EncodedGroup, template: Template, *, around: int = 12) -> dict[str, Any]:
    """One row as it is trained: its texts, and the tokens around the boundary.

    Each completion's `start` and `end` list (token text, trained) for its first and last tokens, without overlap.
    """

    def pieces(ids: Iterable[int]) -> list[str]:
        return [str(template.tokenizer.decode([token])) for token in ids]

    def marked(ids: Sequence[int], trained: Sequence[bool]) -> list[list[Any]]:
        return [[text, bool(flag)] for text, flag in zip(pieces(ids), trained, strict=True)]

    prompt = group.prompt_ids.tolist()
    return {
        "id": group.id,
        "prompt": str(template.tokenizer.decode(prompt)),
        "prompt_end": pieces(prompt[-around:]),
        "completions": [
            {
                "text": str(template.tokenizer.decode(completion.ids.tolist())),
                "start": marked(completion.ids[:around].tolist(), completion.trained[:around].tolist()),
                "end": marked(completion.ids[around:][-4:].tolist(), completion.trained[around:][-4:].tolist()),
            }
            for completion in group.completions
        ],
    }


def render_preflight(report: Mapping[str, Any]) -> str:
    """A report as about a dozen lines for a terminal."""
    rows, records = report["rows"], report["records"]
    lines = [f"rows      {rows['read']:,} read: {rows['used']:,} used, {rows['dropped']:,} dropped"]
    changed = [f"{records['dropped']:,} dropped"]
    if records["cut"]:
        changed.append(f"{records['cut']:,} with the prompt shortened to fit")
    lines.append(f"examples  {records['used']:,} made of them, {', '.join(changed)}")
    if report["dropped_by_reason"]:
        reasons = (f"{count:,} {reason.replace('_', ' ')}" for reason, count in report["dropped_by_reason"].items())
        lines.append(f"dropped   {', '.join(reasons)} (data.json names each row)")
    for reason in sorted(_EXPLAINED):
        first = _first_dropped(report, frozenset({reason}))
        if first is not None:
            lines.append(f"          {first['id']}: {first['detail']}")
    sources = report["sources"].items()
    lines += [f"labels    {name}: {counts['labels']}" for name, counts in sources if "labels" in counts]
    unread = {name: counts["unread_columns"] for name, counts in sources if "unread_columns" in counts}
    lines += [f"not read  {name}: {_named(columns)}" for name, columns in unread.items()]
    lines += _comparison_lines(report.get("comparisons", ()))
    lines += [_files_line(name, counts["files"]) for name, counts in sources if "files" in counts]
    over = report["over_length"]
    if report["cutoff_len"] and over["records"]:
        share = f"{100 * over['share']:.1f} %"
        lines.append(
            f"too long  {amount(over['records'], 'example')} ({share}) longer than cutoff_len {report['cutoff_len']}"
        )
    for split, tokens in report["tokens"].items():
        lines += _tokens_lines({"eval": "held out"}.get(split, split), tokens) if tokens["groups"] else []
    name = report["template"]["name"]
    shown = "the tokenizer's own" if name == "tokenizer" else name
    lines.append(f"template  {shown}; each answer ends with {report['template']['end_of_turn']!r}")
    lines += [f"note      {line}" for line in (*report["template"]["notices"], *report.get("notices", ()))]
    if report["example"]:
        lines += _example_lines(report["example"])
    return "\n".join(lines)


def _comparison_lines(shares: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many examples people and how many machines compared, and each source's share of the loss."""
    kinds: Counter[str] = Counter()
    for one in shares:
        kinds[one["kind"]] += one["rows"]
    if not kinds:
        return []
    counted = ", ".join(f"{rows:,} {kind}" for kind, rows in kinds.items())
    mixed = "; comparisons of people and of machines are mixed" if {"human", "machine"} <= set(kinds) else ""
    return [
        f"compared  by: {counted}{mixed or ('; of both together' if 'both' in kinds else '')}",
        *(
            f"{'':<9} {one['source']} ({one['kind']}): {amount(one['rows'], 'example')}, weight {one['weight']:g}, "
            f"{one['loss_share']:.1%} of the loss"
            for one in shares
        ),
    ]


def _files_line(name: str, files: Mapping[str, int]) -> str:
    """How many files a source has, and how many rows they had."""
    fewest, most = min(files.values()), max(files.values())
    rows = amount(most, "row") if fewest == most else f"{fewest:,} to {most:,} rows"
    return f"files     {name}: {amount(len(files), 'file')} of {rows} (data.json has the count of each)"


def _named(columns: Sequence[str]) -> str:
    """The unread columns of a source, the first eight if there are many."""
    more = f" and {len(columns) - 8} more" if len(columns) > 9 else ""
    return (
        f"columns {', '.join(columns[:8] if more else columns)}{more}" if len(columns) > 1 else f"column {columns[0]}"
    )


def _check_balance(sources: Sequence[SourceReport], records: int, encoded: Mapping[str, Encoded]) -> None:
    for source in sources:
        missing = source.rows_read - source.used - sum(source.dropped_by_reason.values())
        if missing:
            raise DataError(f"{source.name}: {missing} of {source.rows_read} rows are neither used nor dropped")
    seen = sum(len(part.groups) + len(part.dropped) for part in encoded.values())
    if seen != records:
        raise DataError(f"{records} records were given, but {seen} were encoded or dropped")


def _source(
    source: SourceReport, lost: Sequence[Dropped], cuts: Iterable[Any], source_of: Mapping[str, str]
) -> dict[str, Any]:
    dropped = Counter(row.reason for row in lost if source_of.get(row.id) == source.name)
    unread = [name for name in source.unknown_columns if name not in _OF_ORIGIN]
    return {
        "rows_read": source.rows_read,
        "rows_used": source.used,
        "records": source.records,
        "dropped_by_reason": dict(Counter(source.dropped_by_reason) + dropped),
        **({"labels": source.labels} if source.labels else {}),
        **({"unread_columns": unread} if unread else {}),
        **({"files": dict(source.files)} if source.files else {}),
        "cut": sum(source_of.get(cut.id) == source.name for cut in cuts),
    }


def _reasons(sources: Sequence[SourceReport], lost: Sequence[Dropped]) -> dict[str, int]:
    by_source = (Counter(source.dropped_by_reason) for source in sources)
    return dict(sum(by_source, Counter(row.reason for row in lost)).most_common())


def _template(template: Template, encoded: Mapping[str, Encoded]) -> dict[str, Any]:
    stats = [part.stats for part in encoded.values()]
    notices = list(template.notices)
    total = sum(stats, EncodingStats())
    for count, noun, notice in (
        (total.ends_removed, "answer", "with an end-of-turn text at the end; it was removed"),
        (total.rewritten, "rendering", "in which the template changed a content (thinking blocks?)"),
        (total.control_text, "record", "with the text of a special token in a message; it is encoded as that token"),
        (
            total.reasoning_differs,
            "record",
            "with reasoning in one answer and none in another, where the template may write an empty block",
        ),
    ):
        if count:
            notices.append(f"{amount(count, noun)} {notice}")
    return {"name": template.name, "end_of_turn": template.end_of_turn, "notices": notices}


def _lengths(values: array[int]) -> dict[str, float]:
    """Summary of token counts."""
    counts = np.frombuffer(values, dtype=np.int32)
    return {
        "min": int(counts.min()),
        "median": float(np.median(counts)),
        "p95": float(np.percentile(counts, 95)),
        "max": int(counts.max()),
        "total": int(counts.sum(dtype=np.int64)),
    }


def _tokens_lines(split: str, tokens: Mapping[str, Any]) -> list[str]:
    """Number of examples, lengths of their parts, and share of trained tokens."""
    parts = [
        f"{name} {tokens[name]['median']:,.0f} ({tokens[name]['min']:,} to {tokens[name]['max']:,})"
        for name in ("prompt", "chosen", "rejected", "completion")
        if name in tokens
    ]
    saved = tokens["saved_by_shared_prompt"]
    shared = f"; computing each prompt once saves {saved:.0%}" if saved else ""
    return [
        f"{split:<9} {amount(tokens['groups'], 'example')}; tokens, median (shortest to longest):",
        f"{'':<9} {', '.join(parts)}",
        f"{'':<9} {tokens['trained']:,} of {tokens['packed']:,} tokens are trained{shared}",
    ]


def _example_lines(example: Mapping[str, Any]) -> list[str]:
    """The tokens around the boundary of one row, separated by bars; trained ones have a star."""
    completions = example["completions"]
    names = ("chosen", "rejected") if len(completions) == 2 else ("answer",) * len(completions)
    lines = [
        f"example   {example['id']}, token by token; a star marks the tokens that are trained",
        f"  {'prompt':<9}… {'|'.join(map(repr, example['prompt_end'][-6:]))}",
    ]
    for name, completion in zip(names, completions):
        tokens = [f"{text!r}{'*' if trained else ''}" for text, trained in (*completion["start"], *completion["end"])]
        whole = "|".join(tokens) if len(tokens) <= 8 else f"{'|'.join(tokens[:6])} … {'|'.join(tokens[-2:])}"
        lines.append(f"  {name:<9}{whole}")
    return lines
