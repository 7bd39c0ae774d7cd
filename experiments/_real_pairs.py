"""Pairs and prompts of the experiments on a real model: found or said to be missing, drawn by a seed, written once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from palate.data import load_records, open_source
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.prompts import load_prompts
from palate.errors import DataError
from palate.models.generation.decoding import sampling_seed
from palate.models.loading.load import load_tokenizer
from palate.records import Messages, PreferencePair
from palate.text.encode import encode_records
from palate.text.template import Template, load_template

DEMO, DEMO_HELD_OUT, DEMO_PROMPTS = "palate-demo", "palate-demo-heldout", "palate-demo-prompts"


def shared_file(folder: str, name: str) -> Path:
    """A file of the folder with data that the repository does not hold.

    Raises:
        DataError: it is not there.
    """
    path = Path(folder) / name
    if not path.is_file():
        raise DataError(f"{name} is missing: it is looked for at {path}; put it there, or say where: --set data=FOLDER")
    return path


def digest(*paths: Path) -> str:
    """What files hold, for the settings of a cell that reads them."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]


def demo_digest() -> str:
    """The same of the built-in pairs and prompts."""
    return digest(*(file for name in (DEMO, DEMO_HELD_OUT, DEMO_PROMPTS) for file in open_source(name).files))


def template_of(model: str, name: str | None = None) -> Template:
    """The chat template of a model: its tokenizer's own, or a named one."""
    return load_template(load_tokenizer(model), name)


def drawn(
    pairs: Sequence[PreferencePair], template: Template, *, cutoff_len: int, count: int, seed: int
) -> tuple[list[PreferencePair], int]:
    """`count` of the pairs that fit into `cutoff_len` tokens as they are, and how many fit.

    Which ones depends on the seed and on each pair's id alone.
    """
    fitting = {group.id for group in encode_records(pairs, template, cutoff_len=cutoff_len, truncation="drop").groups}
    kept = sorted((pair for pair in pairs if pair.id in fitting), key=lambda pair: sampling_seed(seed, pair.id))
    return kept[:count], len(kept)


def read_pairs(dataset: str | Path) -> list[PreferencePair]:
    """All usable pairs of a file or a built-in name."""
    return load_records(str(dataset), kind=PreferencePair).records


def write_pairs(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """As palate's own rows; ids become those of the new file."""
    write_rows(path, (palate_row(pair) for pair in pairs))


def six_prompts() -> list[Messages]:
    """The fixed prompts of the built-in set, of topics that its training pairs do not have."""
    return [record.prompt for record in load_prompts(DEMO_PROMPTS)[0]]


def distinct_prompts(pairs: Sequence[PreferencePair], count: int) -> list[Messages]:
    """The first `count` different prompts."""
    return list(dict.fromkeys(pair.prompt for pair in pairs))[:count]
