"""Augmentation from prompts alone: asks models, appends each pair as it is made, and can be continued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palate.artifacts import JsonlWriter, plain, read_jsonl
from palate.charts.text import amount
from palate.data.augment.answers import AnswerFile
from palate.data.augment.gaps import Gaps
from palate.data.augment.made import Recipe
from palate.data.augment.quality import Quality, quality_of
from palate.data.contract import check_output_folder, write_contract
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.prompts import load_prompts
from palate.data.sources.spec import find_sources
from palate.errors import DataError
from palate.progress import progress
from palate.records import DatasetRequest, Dropped, PreferencePair, Record, RewardFunction, prompt_key

ANSWERS = "answers.jsonl"
"""All answers of the models, by which a second run continues."""
ROWS = "augmented.jsonl"

# Prompts whose rows are made together; answers are kept one by one.
_CHUNK = 32


@dataclass(frozen=True, slots=True)
class PromptAugmentation:
    """The result of an augmentation from prompts.

    Attributes:
        output: folder with augmented.jsonl, answers.jsonl and data.json.
        how: name of the recipe.
        prompts: prompts that were read; prompts = rows + not_made.
        rows: pairs in augmented.jsonl.
        not_made: prompts without a pair, by reason.
        asked: answers asked for in this run; `kept`: answers of earlier runs.
        quality: of chosen and rejected.
    """

    output: Path
    how: str
    prompts: int
    rows: int
    not_made: Mapping[str, int]
    asked: int
    kept: int
    quality: Quality


def augment_prompts(
    request: DatasetRequest,
    output: str | Path,
    recipe: Recipe,
    *,
    seed: int = 0,
    gaps: Gaps | None = None,
    reward: RewardFunction | None = None,
    judge: str = "",
) -> PromptAugmentation:
    """Make a pair of each prompt of a dataset.

    Args:
        request: the dataset; only its prompts are read.
        gaps: take only prompts about its topics.
        reward, judge: score chosen and rejected for the report, and the name of what scores.

    Raises:
        ArtifactError: the folder has answers made with other settings.
        DataError: no prompt is left, or the folder was not written by palate.
        EngineError: an engine failed; what it answered is kept.
    """
    folder = Path(output)
    sources = find_sources(request)
    if not (folder / ANSWERS).is_file():
        check_output_folder(folder, sources)
    loaded, dropped = load_prompts(request)
    prompts, not_asked = _wanted(loaded, gaps)
    dropped = [*dropped, *not_asked]
    if not prompts:
        raise DataError(f"{sources[0].path}: no prompt is left: {_reasons(dropped)}")
    settings = {"how": recipe.how, "seed": seed, **recipe.settings()}
    folder.mkdir(parents=True, exist_ok=True)
    with AnswerFile(folder / ANSWERS, settings) as answers:
        recipe.prepare(answers, prompts, seed)
        pairs = []
        for made in _appended(folder / ROWS, recipe, answers, prompts, seed):
            if isinstance(made, Dropped):
                dropped.append(made)
            else:
                pairs.append(made)
        asked, kept = answers.asked, answers.kept_before
    rows = [plain(_row(pair)) for pair in pairs]
    if read_jsonl(folder / ROWS) != rows:  # an earlier run had other prompts
        write_rows(folder / ROWS, rows)
    if not pairs:
        raise DataError(f"{folder}: no pair was made of {amount(len(prompts), 'prompt')}: {_reasons(dropped)}")
    quality = quality_of(pairs, reward, judge)
    not_made = dict(Counter(drop.reason for drop in dropped).most_common())
    write_contract(
        folder / "data.json",
        how="augment",
        files={"rows": folder / ROWS, "answers": folder / ANSWERS},
        counts={"prompts": len(loaded), "made": {recipe.how: len(pairs)}, "not_made": not_made},
        sources=sources,
        options={**settings, "gaps": gaps and asdict(gaps), "quality": asdict(quality)},
        left_out=dropped,
    )
    total = len(pairs) + len(dropped)
    return PromptAugmentation(folder, recipe.how, total, len(pairs), not_made, asked, kept, quality)


def _reasons(dropped: Sequence[Dropped]) -> str:
    return ", ".join(f"{n} {why}" for why, n in Counter(drop.reason for drop in dropped).most_common())


def _wanted(loaded: Sequence[Record], gaps: Gaps | None) -> tuple[list[Record], list[Dropped]]:
    """The prompts to ask about, each once, and the others with the reason."""
    prompts: dict[str, Record] = {}
    dropped = []
    for record in loaded:
        first = prompts.get(prompt_key(record.prompt))
        if first is not None:
            dropped.append(Dropped(record.id, "same_prompt", f"the prompt of {first.id}"))
        elif gaps is not None and not gaps.covers(record.prompt):
            dropped.append(Dropped(record.id, "not_in_gap", "is about none of the rare topics"))
        else:
            prompts[prompt_key(record.prompt)] = record
    return list(prompts.values()), dropped


def _appended(
    path: Path, recipe: Recipe, answers: AnswerFile, prompts: Sequence[Record], seed: int
) -> Iterator[PreferencePair | Dropped]:
    """The outcome for each prompt; a pair is yielded after it is in the file."""
    have = {str(row.get("origin")) for row in read_jsonl(path)} if path.exists() else set()
    with JsonlWriter(path, sync=True) as file, progress("prompts augmented", len(prompts)) as done:
        for start in range(0, len(prompts), _CHUNK):
            chunk = prompts[start : start + _CHUNK]
            for made in recipe.rows(answers, chunk, seed):
                if isinstance(made, PreferencePair) and made.id not in have:
                    file.write(_row(made))
                yield made
            done.advance(len(chunk))


def _row(pair: PreferencePair) -> dict[str, Any]:
    return palate_row(pair) | {"origin": pair.id}
