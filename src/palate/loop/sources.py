"""One training set from several sources of preferences: people, judges, edits, choices, thumbs, imported sets.

Every row keeps the votes or the interaction that it was made from, its source, and who compared. Its weight in the loss
is multiplied by the weight of its source, so a source's share of the loss is the sum of its rows' weights divided by
the sum of all.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from palate.artifacts import atomic_folder
from palate.data.comparisons import Kind, SourceShare, kind_of, rows_by_kind, source_shares
from palate.data.contract import check_output_folder, named_hashes, write_contract
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.held_out import IN_EVALUATION, HeldOut
from palate.data.load import LoadedData, load_records, top_reasons
from palate.data.mix import drawn_key
from palate.data.sources.spec import find_sources
from palate.errors import DataError, UsageError
from palate.records import (
    DatasetRequest,
    Dropped,
    LabelledCompletion,
    PreferencePair,
    SourceReport,
    plain_text,
    prompt_key,
)

SourceKind: TypeAlias = Literal["human", "machine", "imported"]
SOURCE_KINDS: Final[Mapping[str, SourceKind]] = {
    "people": "human",
    "judge": "machine",
    "edits": "human",
    "choices": "human",
    "thumbs": "human",
}
"""The sources that a cycle makes; any other name is an imported set."""
PAIRS = "train.jsonl"
THUMBS = "thumbs.jsonl"
LINEAGE_SOURCE = {"edits": "edit", "choices": "choice", "thumbs": "thumbs"}
"""Source → what its rows have as `lineage.source`: edits and choices lie in one file of `data from-interactions`."""
_VOTERS = {"human": "people", "machine": "judges"}


@dataclass(frozen=True, slots=True)
class PreferenceSource:
    """A source of preferences.

    Attributes:
        name: of `SOURCE_KINDS`, or of an imported set.
        kind: who compared. Rows of an imported set that state it themselves keep their own.
        path: the file or dataset.
        weight: factor on the weight of its rows, above 0.
    """

    name: str
    kind: SourceKind
    path: Path
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Mixed:
    """The result of `mix_sources`.

    Attributes:
        output: the folder with train.jsonl, thumbs.jsonl and data.json.
        datasets: the files to train on, for the key `dataset`.
        sources: rows, weight and shares of each source and kind, over both files; a source without rows is named too.
        agreed: rows left out because a row of another source says the same of the same two answers.
        overruled: rows left out because people say the opposite.
        contradictory: rows left out because sources of equal rank say opposite things.
        unusable: rows that cannot be trained on, by reason.
    """

    output: Path
    datasets: tuple[Path, ...]
    sources: tuple[SourceShare, ...]
    agreed: int
    overruled: int
    contradictory: int
    unusable: Mapping[str, int]

    @property
    def kinds(self) -> dict[Kind, int]:
        """Rows by kind: `{"human": 120, "machine": 80}`."""
        return rows_by_kind(self.sources)


def mix_sources(
    sources: Sequence[PreferenceSource], output: Path, *, seed: int = 0, kto: bool = False, exclude: Sequence[Path] = ()
) -> Mixed:
    """Write one training set; the same sources and seed give the same bytes.

    Two answers to one prompt are compared by one source only: where a person has compared them, machines and imported
    sets do not count; where sources of equal rank agree, the first one is taken, and where they do not, none.

    Args:
        sources: in order of preference among equals.
        output: folder to write, which holds none of the sources; an existing one is replaced if palate wrote it.
        kto: whether `stage: kto` trains on it. Thumbs are labels of single answers, which no other stage reads.
        exclude: evaluation data; rows whose prompt is or resembles one of its are left out.

    Raises:
        UsageError: a weight is not above 0, a name occurs twice, or there are thumbs without `kto`.
        DataError: a source cannot be read, was made from the votes of others than it says, or nothing is left.
    """
    _check(sources, kto=kto)
    files = find_sources(DatasetRequest(dataset=list(dict.fromkeys(str(source.path) for source in sources))))
    check_output_folder(output, files)
    evaluation = HeldOut(exclude)
    reports: list[SourceReport] = []
    dropped: list[Dropped] = []
    pairs: list[tuple[int, PreferencePair]] = []
    labels: list[tuple[int, LabelledCompletion]] = []
    for number, source in enumerate(sources):
        loaded = _read(source, evaluation)
        reports += loaded.sources
        dropped += [replace(row, id=f"{source.name} {row.id}") for row in loaded.dropped]
        (labels if source.name == "thumbs" else pairs).extend((number, record) for record in loaded.records)
    kept, left_out = _one_source_each(pairs)
    written = {PAIRS: _ordered(kept, seed), THUMBS: _ordered(labels, seed)}
    written = {name: records for name, records in written.items() if records}
    if not written:
        why = f" ({reasons})" if (reasons := top_reasons(dropped)) else ""
        raise DataError(f"the sources leave nothing to train on{why}; collect more votes, or name more sources")
    in_order = sorted([*kept, *labels], key=lambda row: row[0])
    shares = source_shares((record for _, record in in_order), by_answer=kto)
    shares += [
        SourceShare(one.name, one.kind, weight=one.weight)
        for one in sources
        if one.name not in {share.source for share in shares}
    ]
    decided = {name: left_out[name] for name in ("agreed", "overruled", "contradictory")}
    with atomic_folder(output) as folder:
        paths: dict[str, Path] = {}
        for name, records in written.items():
            rows = ({"id": one.extra["id"], **palate_row(one), "weight": one.weight} for one in records)
            write_rows(folder / name, rows)
            paths["thumbs" if paths else "rows"] = folder / name  # `rows` is what a dataset of this folder reads
        options = {"seed": seed, "kto": kto, "weights": {one.name: one.weight for one in sources}}
        options |= {"exclude": named_hashes(exclude)}
        write_contract(
            folder / "data.json",
            how="loop mix",
            files=paths,
            counts={"comparisons": [asdict(one) for one in shares], **decided},
            sources=files,
            options=options,
            reports=reports,
            left_out=dropped,
        )
    unusable = dict(Counter(row.reason for row in dropped).most_common())
    return Mixed(output, tuple(output / name for name in written), tuple(shares), **decided, unusable=unusable)


def _read(source: PreferenceSource, evaluation: HeldOut) -> LoadedData[Any]:
    """The records of a source, labelled with it; those of the evaluation are among the dropped ones."""
    kind: Any = LabelledCompletion if source.name == "thumbs" else PreferencePair
    loaded: LoadedData[Any] = load_records([str(source.path)], kind=kind)
    records = [record for record in loaded.records if _belongs(source, record)]
    held_out = {record.id: None for record in records if evaluation.has(record.prompt)}
    dropped = [Dropped(one, IN_EVALUATION, "its prompt is held out") for one in held_out]
    kept = [_labelled(source, record) for record in records if record.id not in held_out]
    return replace(loaded, records=kept, dropped=[*loaded.dropped, *dropped])


def _check(sources: Sequence[PreferenceSource], *, kto: bool) -> None:
    names = Counter(source.name for source in sources)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"sources names {twice} twice; give each source its own name")
    for source in sources:
        if not (math.isfinite(source.weight) and source.weight > 0):
            raise UsageError(f"sources: {source.name} has weight {source.weight:g}; give one above 0, or leave it out")
    if names["thumbs"] and not kto:
        raise UsageError("sources: thumbs label single answers, which only `stage: kto` trains on; leave thumbs out")


def _belongs(source: PreferenceSource, record: PreferencePair | LabelledCompletion) -> bool:
    """Whether a row of the file is of this source.

    Raises:
        DataError: the row was made from the votes of others.
    """
    lineage = record.extra.get("lineage")
    if isinstance(lineage, Mapping) and "interaction" in lineage:
        said = lineage.get("source")
        if said != LINEAGE_SOURCE.get(source.name, said):
            return False
    found = kind_of(record.extra)
    if source.kind != "imported" and found not in (None, source.kind):
        raise DataError(
            f"{record.id}: is {'of people and judges' if found == 'both' else found}, but {source.name} is a "
            f"{source.kind} source; export it with --voters {_VOTERS[source.kind]}"
        )
    return True


def _labelled(source: PreferenceSource, record: Any) -> Any:
    """The record with the columns of its source, and its weight multiplied by that of the source."""
    kind: Kind = (kind_of(record.extra) or "imported") if source.kind == "imported" else source.kind
    columns = {
        "id": record.extra.get("id") or record.id,
        "source": source.name,
        "source_kind": kind,
        "source_weight": source.weight,
        "origin": record.id,
    }
    return replace(record, weight=record.weight * source.weight, extra={**record.extra, **columns})


def _one_source_each(pairs: Sequence[tuple[int, PreferencePair]]) -> tuple[list[Any], Counter[str]]:
    """The pairs without those on two answers that another source decides, and how many are left out by reason."""
    compared: dict[bytes, list[tuple[int, PreferencePair, bool]]] = {}
    for number, pair in pairs:
        sides = [plain_text("\x1e".join(turn.text for turn in side)) for side in (pair.chosen, pair.rejected)]
        texts = "\x1d".join([prompt_key(pair.prompt), *sorted(sides)])
        key = hashlib.blake2b(texts.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        compared.setdefault(key, []).append((number, pair, sides[0] < sides[1]))
    kept: list[tuple[int, PreferencePair]] = []
    left_out: Counter[str] = Counter()
    for rows in compared.values():
        leading = [row for row in rows if row[1].extra["source_kind"] == "human"] or rows
        first = leading[0][0]
        says = {direction for _, _, direction in leading}
        if len(says) > 1 and any(number != first for number, _, _ in leading):
            left_out["contradictory"] += len(leading)
            left_out["overruled"] += len(rows) - len(leading)
            continue
        taken = [(number, pair) for number, pair, _ in leading if number == first]
        agree = sum(direction in says for _, _, direction in rows)
        kept += taken
        left_out["agreed"] += agree - len(taken)
        left_out["overruled"] += len(rows) - agree
    return kept, left_out


def _ordered(rows: Sequence[tuple[int, Any]], seed: int) -> list[Any]:
    """The records in an order that depends on the seed and on nothing but their own ids and sources."""
    return [
        record for _, record in sorted(rows, key=lambda row: drawn_key(seed, f"{row[1].extra['source']}\0{row[1].id}"))
    ]
