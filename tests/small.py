"""A tiny model and a handful of rows in place of the real model and the real sets of the experiments."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _cells import Cell, place
from _real_pairs import DEMO, read_pairs

from palate.records import PreferencePair
from tiny import save_tiny, tiny_tokenizer

CONFIGS = Path(__file__).resolve().parents[1] / "experiments" / "configs"
ROWS = 40


def small_model(folder: Path) -> Path:
    """Random weights; a tokenizer that has seen the texts, so that rows are short."""
    texts = [text for pair in _pairs(200) for text in (pair.prompt[-1].content, pair.chosen[-1].content)]
    return save_tiny(folder, tokenizer=tiny_tokenizer(texts=texts, size=900), num_hidden_layers=2)


def small_data(folder: Path) -> Path:
    """Files in the places and shapes of the shared ones, made of built-in pairs."""
    rows = _pairs(ROWS)
    preference, benchmark = folder / "preference", folder / "benchmark"
    preference.mkdir(parents=True)
    benchmark.mkdir()
    transcripts = [
        {side: f"\n\nHuman: {pair.prompt[-1].content}\n\nAssistant: {text}" for side, text in _sides(pair)}
        for pair in rows
    ]
    with gzip.open(preference / "hh_harmless_base_test.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in transcripts)
    plain = [{"prompt": pair.prompt[-1].content, **dict(_sides(pair))} for pair in rows]
    (preference / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain), encoding="utf-8")
    (benchmark / "truthfulqa_mc_task.json").write_text(json.dumps(_questions()), encoding="utf-8")
    return folder


def truthy(folder: Path) -> Path:
    """The known trial's config as it stands beside the repository."""
    path = folder / "truthy.yaml"
    path.write_text(
        "stage: dpo\nmodel_name_or_path: some/model\ntemplate: phi2\ndataset: some/pairs\nfinetuning_type: full\n"
        "pref_beta: 0.2\nper_device_train_batch_size: 4\ncutoff_len: 512\nlearning_rate: 5.0e-7\nseed: 2003\n"
        "report_to: wandb\nwandb_project: some-project\noutput_dir: runs/some\n",
        encoding="utf-8",
    )
    return path


def made(cells: Sequence[Cell], folder: Path) -> dict[str, Any]:
    """The cells in their order, in this process, as `run.py` would record them."""
    records = []
    for cell in cells:
        at = place(folder, cell.name)
        at.mkdir(parents=True)
        record = {"name": cell.name, "settings": dict(cell.settings), "seconds": 1.5, "peak_bytes": 1 << 20}
        records.append({**record, "record": cell.make(at)})
    found: dict[str, Any] = json.loads(json.dumps({"cells": records}, allow_nan=False))
    return found


def check_table(text: str, *, rows: int) -> None:
    """A Markdown table with as many cells in every line, and rows below its rule."""
    lines = text.splitlines()
    assert len(lines) == rows + 2, text
    widths = {line.replace("\\|", "").count("|") for line in lines}
    assert len(widths) == 1, text


def _pairs(count: int) -> list[PreferencePair]:
    return read_pairs(DEMO)[:count]


def _sides(pair: PreferencePair) -> list[tuple[str, str]]:
    return [("chosen", pair.chosen[-1].content), ("rejected", pair.rejected[-1].content)]


def _questions() -> list[dict[str, Any]]:
    return [
        {
            "question": f"What is the answer to question {number}?",
            "mc1_targets": {"It is this.": 1, "It is that.": 0, "Nobody knows.": 0},
            "mc2_targets": {"It is this.": 1, "This is it.": 1, "It is that.": 0, "Nobody knows.": 0},
        }
        for number in range(5)
    ]
