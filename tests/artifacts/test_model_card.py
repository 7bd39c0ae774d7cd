"""The model card: palate's part, a person's text around it, and the header as huggingface_hub reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard

from palate.artifacts.model_card import BEGIN, END, MeasuredFigure, write_model_card
from palate.errors import ArtifactError

CONFIG = {
    "model_name_or_path": "org/base",
    "dataset": "org/pairs,data/own.jsonl",
    "finetuning_type": "full",
    "pref_beta": 0.1,
    "learning_rate": 5e-6,
    "dataloader_num_workers": 4,
    "seed": 42,
}
RUN: dict[str, Any] = {
    "stage": "dpo",
    "objective": "sigmoid",
    "config": CONFIG,
    "model": {"identity": "0123", "trainable_parameters": 1000, "total_parameters": 4000},
    "reference": {"kind": "copy", "identity": "4567"},
    "data": {"train_groups": 6, "train_prompts": 3, "eval_groups": 0, "identity": "89ab"},
    "health": [{"name": "chosen_falls", "message": "chosen fell by 6 nats"}],
    "final_metrics": {"loss": 0.5, "grad_norm": 3.0},
    "versions": {"palate": "0.1.0"},
}
DATA = {"sources": {"pairs": {"rows_read": 1200, "rows_used": 1190, "dropped_by_reason": {"equal": 10}}}}
MC1 = MeasuredFigure("TruthfulQA", "mc1", 0.233, 0.205, 0.264, 790)


def test_the_hub_reads_the_header(tmp_path: Path) -> None:
    path = write_model_card(tmp_path / "dpo", RUN, DATA, figures=[MC1], results="| a |", limits=["n is small"])
    card = ModelCard.load(path)
    assert (card.data.base_model, card.data.datasets, card.data.library_name) == (
        "org/base",
        ["org/pairs"],
        "transformers",
    )
    assert card.data.tags == ["palate", "dpo", "sigmoid"]
    assert card.data.model_name == "dpo"
    [result] = card.data.eval_results
    assert isinstance(result, EvalResult)
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("truthfulqa", "mc1", 23.3)
    assert "20.5 to 26.4, n = 790" in result.metric_name
    for text in (
        "1,000 of 4,000",
        "0123",
        "copy, weights 4567",
        "| source pairs | 1,200 rows read, 1,190 used, dropped: 10 equal |",
        "pref\\_beta",
        "89ab",
    ):
        assert text in card.text
    assert "- health check of the run: chosen fell by 6 nats" in card.text
    assert "- n is small" in card.text
    assert "No rows were held out" in card.text
    assert "dataloader" not in card.text


def test_a_local_base_model_gives_its_licence_and_no_hub_id(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: mit\n---\nA model.")
    path = write_model_card(tmp_path / "run", {**RUN, "config": {**CONFIG, "model_name_or_path": str(base)}}, DATA)
    header = yaml.safe_load(path.read_text().split("---\n")[1])
    assert header["license"] == "mit"
    assert "base_model" not in header
    assert "model-index" not in header


def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    path = write_model_card(tmp_path, RUN, DATA)
    assert "Safety, truthfulness and over-refusal were not measured" in path.read_text()
    text = path.read_text().replace(
        "---\n", "---\nlicense: apache-2.0\ntags:\n- mine\nmodel-index:\n- name: x\n  results: []\n", 1
    )
    text = (
        text.replace("tags:\n- palate\n- dpo\n- sigmoid\n", "").replace(BEGIN, f"Above.\n\n{BEGIN}")
        + "\nBelow --- <!-- x -->.\n"
    )
    path.write_text(text)
    for _ in range(2):
        write_model_card(tmp_path, RUN, DATA, figures=[MC1], results="| new |")
    written = path.read_text()
    assert written.count("Above.\n\n" + BEGIN) == 1
    assert written.endswith(f"{END}\n\nBelow --- <!-- x -->.\n")
    assert written.count("| new |") == 1
    header = yaml.safe_load(written.split("---\n")[1])
    assert header["license"] == "apache-2.0"
    assert header["tags"] == ["mine", "palate", "dpo", "sigmoid"]
    assert [entry["name"] for entry in header["model-index"]] == ["x", tmp_path.name]


def test_a_card_of_a_person_alone_is_kept_whole(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My model\n\nText.\n")
    assert "# My model\n\nText.\n\n" + BEGIN in write_model_card(tmp_path, RUN, DATA).read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"Mine\n{BEGIN}\nhalf", "palate's part has no end line"),
        ("---\na: [\n---\n", "the header between the --- lines is no YAML"),
        ("---\njust words\n---\n", "has no keys"),
    ],
)
def test_a_card_that_would_lose_text_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        write_model_card(tmp_path, RUN, DATA)
    assert (tmp_path / "README.md").read_text() == text


def test_texts_cannot_leave_their_cell(tmp_path: Path) -> None:
    config = {**CONFIG, "eval_dataset": f"a | b {END} <script>"}
    run = {**RUN, "config": config, "health": [{"message": "x\n# y"}]}
    text = write_model_card(tmp_path, run, DATA).read_text()
    assert text.count(END) == 1
    assert "<script" not in text.replace("\\<script", "")
    assert "\n# y" not in text


def test_the_card_says_who_compared(tmp_path: Path) -> None:
    names = ("source", "kind", "rows", "share", "weight", "loss_share")
    rows = [("people", "human", 1500, 0.6, 1.0, 0.75), ("a|b", "machine", 1000, 0.4, 0.5, 0.25)]
    data = {**DATA, "comparisons": [dict(zip(names, row)) for row in rows]}
    text = write_model_card(tmp_path / "dpo", RUN, data).read_text()
    section = text.partition("## Where the comparisons come from")[2].partition("## Objective")[0]
    assert "1,500 human, 1,000 machine" in section
    assert "| people | human | 1,500 | 60.0% | 1 | 75.0% |" in section
    assert "| a\\|b | machine | 1,000 | 40.0% | 0.5 | 25.0% |" in section
    assert "comparisons come from" not in write_model_card(tmp_path / "other", RUN, DATA).read_text()
