"""What the page of plain torch computes, and the notebook, which runs top to bottom on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from doc_pages import DOCS, RUN_PAGES, blocks
from palate.models.loading.builtin import SMOLLM2
from palate.objectives.paired import PairLogps, sigmoid
from tiny import save_tiny, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tutorials") / "model"
    texts = [path.read_text(encoding="utf-8") for path in RUN_PAGES]
    return save_tiny(folder, tokenizer=tiny_tokenizer(texts=texts, size=600), num_hidden_layers=5)


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
