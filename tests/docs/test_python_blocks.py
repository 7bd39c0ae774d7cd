"""Python on pages that are no tutorials runs too, on small files and a tiny run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doc_pages import DOCS, PAGES, RUN_PAGES, blocks
from runs import run
from tiny import save_tiny, tiny_tokenizer

BLOCKS = [block for page in PAGES if page not in RUN_PAGES for block in blocks(page) if block.language == "python"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the data files that these pages name."""
    monkeypatch.chdir(tmp_path)
    votes = [{"prompt": f"p{n}", "response_a": "yes", "response_b": "no no", "label": n % 2} for n in range(4)]
    prompts = [{"prompt": f"{n} of it"} for n in range(3)]
    for name, rows in (("votes", votes), ("heldout", prompts)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def executed(block: Any) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.text, block.where, "exec"), names)
    return names


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if "runs/" not in block.text], ids=lambda block: block.where
)
@pytest.mark.usefixtures("files")
def test_it_runs(block: Any) -> None:
    names = executed(block)
    if "votes.jsonl" in block.text:
        assert [pair.chosen[-1].content for pair in names["pairs"]] == ["yes", "no no", "yes", "no no"]


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in BLOCKS if "runs/" in block.text], ids=lambda block: block.where)
def test_it_runs_with_a_run(block: Any, files: Path) -> None:
    model = save_tiny(files / "model", tokenizer=tiny_tokenizer(size=400))
    run(model, files / "runs" / "dpo", max_steps=2, save_strategy="steps", save_steps=1)
    assert len(executed(block)["found"].points) >= 2


def test_what_says_that_it_runs_is_on_a_page_that_a_test_runs() -> None:
    """`sh` blocks run on the quickstart, the page on Python and the tutorials; others are `console` or `bash`."""
    elsewhere = [
        block.where for page in PAGES if page not in RUN_PAGES for block in blocks(page) if block.language == "sh"
    ]
    assert elsewhere == []
    assert {block.page for block in BLOCKS} == {DOCS / f"{name}.md" for name in ("data", "eval", "statistics")}
