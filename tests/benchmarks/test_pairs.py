"""The shortened pairs fit, stay pairs, and have the lengths that the benchmarks speak of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from _pairs import exact_rows, numbered_rows, short_pairs, small_tokenizer, write_jsonl

from palate.data import load_records
from palate.models.loading.load import load_tokenizer
from palate.records import PreferencePair, Ranking, Record
from palate.text.encode import encode_records
from palate.text.groups import EncodedGroup
from palate.text.template import Template, load_template


@pytest.fixture(scope="module")
def template(tiny_folder: Path) -> Template:
    return load_template(load_tokenizer(str(tiny_folder)), None)


def encoded(
    rows: list[dict[str, Any]], template: Template, folder: Path, kind: type[Record] = PreferencePair
) -> list[EncodedGroup]:
    """What palate trains on when it is given these rows."""
    return encode_records(
        load_records(str(write_jsonl(folder / "rows.jsonl", rows)), kind=kind).records, template
    ).groups


def test_short_pairs_fit_and_none_is_lost(source: Path, template: Template, tmp_path: Path) -> None:
    rows = short_pairs(source, template, rows=12, cutoff_len=160)
    groups = encoded(rows, template, tmp_path)
    assert len(groups) == 12
    assert all(group.longest_row <= 160 for group in groups)
    # Cut no further than needed: most of these texts are longer.
    assert sum(group.longest_row > 140 for group in groups) > 6
    assert all(row["chosen"] != row["rejected"] for row in rows)


def test_a_long_prompt_has_the_wanted_ratio_to_the_answers(source: Path, template: Template, tmp_path: Path) -> None:
    groups = encoded(short_pairs(source, template, rows=6, cutoff_len=200, prompt_ratio=3), template, tmp_path)
    for group in groups:
        answer = max(len(completion.ids) for completion in group.completions)
        assert 2.6 < len(group.prompt_ids) / answer < 3.6
        assert 180 < group.longest_row <= 200


def test_too_few_pairs_are_refused(source: Path, template: Template) -> None:
    with pytest.raises(SystemExit, match="only 40 pairs"):
        short_pairs(source, template, rows=41, cutoff_len=400)


@pytest.mark.parametrize("completions", [2, 5])
def test_exact_rows_have_their_length(source: Path, template: Template, tmp_path: Path, completions: int) -> None:
    rows = list(exact_rows(source, template, rows=30, length=120, completions=completions))
    groups = encoded(rows, template, tmp_path, Ranking)
    assert len(groups) == 30
    for group in groups:
        assert len(group.completions) == completions
        assert 100 < group.longest_row <= 124


def test_numbered_rows_are_all_different(source: Path) -> None:
    records = load_records(str(source), kind=PreferencePair).records
    rows = list(numbered_rows(records, 100))
    assert len({json.dumps(row) for row in rows}) == 100
    assert rows[41]["prompt"][-1]["content"].startswith("41: 1 ")


def test_the_small_tokenizer_spells_any_text(source: Path) -> None:
    tokenizer = small_tokenizer(["the answer is that it is not"] * 4, vocabulary=300)
    ids = tokenizer("Ünïcode", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "Ünïcode"
    turns = [{"role": "user", "content": "hi"}]
    rendered = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert rendered == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
