"""What the pages of the manual take for granted: a folder with data, runs, answers and votes on a tiny model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from doc_pages import REPOSITORY, RUN_PAGES
from palate.artifacts import iter_jsonl
from palate.cli.main import main
from palate.models.builtin import SMOLLM2
from tiny import save_tiny, tiny_tokenizer

LAYERS = 12
"""As many as the presets train."""
RUNS: Mapping[str, Mapping[str, Any]] = {
    "dpo": {"stage": "dpo", "dataset": "pairs.jsonl", "save_strategy": "steps", "save_steps": 1},
    "sft": {"stage": "sft", "dataset": "pairs.jsonl"},
    "rm": {"stage": "rm", "dataset": "pairs.jsonl"},
    "lora": {"stage": "dpo", "dataset": "pairs.jsonl", "finetuning_type": "lora"},
}
COPIES = {"dpo": ("ppo", "first", "pairs", "v1.1", "recommended", "large"), "sft": ("second", "v1.0", "conservative", "small")}
"""Runs under the further names that pages have for a run."""


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def variables(world: Path) -> dict[str, str]:
    """The environment in which a page is typed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PALATE_", "OPENAI_"))}
    kept |= {name: os.environ[name] for name in ("PALATE_REFERENCES", "PALATE_TOKENS")}
    path = f"{world / 'bin'}:{os.environ['PATH']}"
    return {**kept, "PALATE_CACHE": str(world / "cache"), "PATH": path, "PALATE_PASSWORD": "correct horse battery"}


def palate(*words: str) -> None:
    assert main(words) == 0, words


@contextmanager
def inside(folder: Path, world: Path) -> Iterator[None]:
    """The block runs in a folder, in the environment of the pages."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, variables(world), clear=True):
            yield
    finally:
        os.chdir(before)


def make_world(world: Path) -> Path:
    """Write the folder; `files` in it is what each page gets a copy of."""
    files = world / "files"
    shutil.copytree(REPOSITORY / "configs", files / "configs")
    for name in ("benchmarks", "experiments", "tools", "examples", "src"):
        (files / name).symlink_to(REPOSITORY / name)
    texts = [path.read_text(encoding="utf-8") for path in RUN_PAGES]
    model = world / "cache" / "models" / f"{SMOLLM2}-1"
    save_tiny(model, tokenizer=tiny_tokenizer(texts=texts, size=600), num_hidden_layers=LAYERS)
    with inside(files, world):
        palate("data", "convert", "palate-demo", "--to", "trl", "--max-samples", "24", "--output", "pairs.jsonl")
        palate("data", "convert", "palate-demo-heldout", "--to", "trl", "--max-samples", "12", "--output", "heldout.jsonl")
        write_rows(files / "prompts.jsonl", [{"prompt": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(4)])
        _train(files)
        _compare(files)
    return world


def _train(files: Path) -> None:
    for name, values in RUNS.items():
        file = files / f"{name}.yaml"
        output = f"runs/{name}"
        quick = {"max_steps": 2, "save_strategy": "no", "sample_prompts": 2, "learning_rate": 1e-3, "report_to": "none"}
        if values["stage"] in ("sft", "rm"):
            del quick["sample_prompts"]
        file.write_text(json.dumps({"model_name_or_path": SMOLLM2, "output_dir": output, **quick, **values}))
        palate("train", file.name, "--quiet")
        file.unlink()
        for copy in COPIES.get(name, ()):
            shutil.copytree(files / output, files / "runs" / copy)


def _compare(files: Path) -> None:
    """Candidates, with votes of a judge and of people."""
    generate = ("generate", "prompts.jsonl", "--k", "3", "--max-new-tokens", "6")
    palate(*generate, "--model", "runs/dpo", "--output", "candidates.jsonl")
    palate("judge", "candidates.jsonl", "--judge", "length:shorter")
    write_rows(files / "people.jsonl", list(votes_of_people(files / "candidates.jsonl")))


def votes_of_people(candidates: Path) -> Iterator[dict[str, Any]]:
    """Two people who prefer the first of every two answers."""
    for row in iter_jsonl(candidates):
        for who in ("anna", "ben"):
            for left in range(len(row["completions"]) - 1):
                yield {
                    "item": row["id"], "left": left, "right": left + 1, "outcome": "left", "who": who, "kind": "person",
                    "when": "2026-11-30T12:00:00Z", "shown": "left_first",
                }  # fmt: skip
