"""The pages that a newcomer types from run top to bottom: their files, commands and Python, on a tiny model."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from doc_pages import DOCS, RUN_PAGES, blocks, commands
from palate.cli.main import main
from palate.models.loading.builtin import SMOLLM2
from palate.objectives.paired import PairLogps, sigmoid
from tiny import save_tiny, tiny_tokenizer

FEW = ["--set", "max_steps=2", "--set", "save_strategy=no"]
"""On a tiny model, steps show that a command works; what training gains is tested elsewhere."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorials") / "model"
    texts = [path.read_text(encoding="utf-8") for path in RUN_PAGES]
    return save_tiny(folder, tokenizer=tiny_tokenizer(texts=texts, size=600), num_hidden_layers=5)


def vote_as_a_person(candidates: Path) -> None:
    """What a person does between two commands, on the page that `palate label serve` opens."""
    votes = [
        {"item": row["id"], "left": 0, "right": 1, "outcome": "left", "who": "anna", "kind": "person",
         "when": "2026-11-30T12:00:00Z", "shown": "left_first"}
        for row in map(json.loads, candidates.read_text(encoding="utf-8").splitlines())
    ]  # fmt: skip
    path = candidates.with_name("by-hand.votes.jsonl")
    path.write_text("".join(json.dumps(vote) + "\n" for vote in votes), encoding="utf-8")
    assert main(["label", "import", "--votes", str(path)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.stem)
def test_it_runs(page: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PALATE_STORE", raising=False)
    names: dict[str, Any] = {"__name__": page.stem}
    ran = 0
    for block in blocks(page):
        text = block.text.replace(SMOLLM2, str(model))
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(text + "\n", encoding="utf-8")
        elif block.language == "sh":
            lines = list(commands(text))
            assert len(lines) == len([line for line in text.splitlines() if line.strip()]), "only palate's own commands"
            for words in lines:
                assert main([*words, *(FEW if words[0] == "train" else [])]) == 0, f"{block.where}: {shlex.join(words)}"
                ran += 1
        elif block.language == "python":
            exec(compile(text, block.where, "exec"), names)
            ran += 1
        elif block.language == "console" and "palate label serve" in text:
            vote_as_a_person(tmp_path / "candidates.jsonl")
    assert ran or page.stem == "gpus"


def test_the_page_of_plain_torch_computes_the_same_loss(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "dpo"}
    for block in blocks(DOCS / "tutorials" / "dpo-from-scratch.md"):
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)
    generator = torch.Generator().manual_seed(0)
    chosen, rejected, ref_chosen, ref_rejected = (torch.randn(7, generator=generator) * 20 - 40 for _ in range(4))
    lengths = torch.full((7,), 5)
    pairs = PairLogps(
        chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected,
        chosen_tokens=lengths, rejected_tokens=lengths,
    )  # fmt: skip
    mine = names["dpo_loss"](chosen, rejected, ref_chosen, ref_rejected, beta=0.3)
    torch.testing.assert_close(mine, sigmoid(pairs, beta=0.3))
    assert names["losses"][0] == pytest.approx(0.6931, abs=1e-4)
    assert names["losses"][-1] < 0.6
    assert "accuracy 100%" in capsys.readouterr().out

    # Log-probabilities of the answers, against transformers' own loss on one row at a time.
    policy, prompts, answers = names["policy"], names["prompts"], names["chosen"]
    with torch.no_grad():
        found = names["answer_logps"](policy, prompts, answers)
        for row, (prompt, answer) in enumerate(zip(prompts, answers)):
            ids = torch.tensor([prompt + answer])
            labels = torch.tensor([[-100] * len(prompt) + answer])
            expected = -policy(input_ids=ids, labels=labels).loss * len(answer)
            assert found[row].item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.slow
def test_the_notebook_runs_top_to_bottom(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((DOCS.parent / "examples" / "dpo_on_a_cpu.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "outputs are not committed"
            text = "".join(cell["source"]).replace(SMOLLM2, str(model)).replace("STEPS = 40", "STEPS = 2")
            exec(compile(text, f"cell {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "720 pairs" in said
    assert "Policy Accuracy" in said
    assert "  after: " in said
