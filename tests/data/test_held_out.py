"""Prompts of evaluation data are found in training data: as a whole however short, in long pieces, and nearly equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.data.held_out import HeldOut
from palate.data.mix_files import mix_files
from palate.errors import DataError
from palate.records import Message, Messages

LONG = "Explain to a child of eight years why the sky is blue at noon and red in the evening over the sea"
"""20 words."""


def ask(text: str, system: str = "") -> Messages:
    turns = (Message("system", system),) if system else ()
    return (*turns, Message("user", text))


@pytest.fixture
def evaluation(tmp_path: Path) -> HeldOut:
    prompts, table = tmp_path / "gate.jsonl", tmp_path / "benchmark.csv"
    prompts.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("Who are you?", LONG)))
    table.write_text("id,stem,best\n1,What happens if one swallows a watermelon seed,It passes through the body\n")
    return HeldOut([prompts, table])


@pytest.mark.parametrize(
    ("prompt", "answer", "found"),
    [
        ("who are  you?", "", True),
        ("Who are you to say so?", "", False),
        (f"Please: {LONG.lower()}. Thanks!", "", True),
        (LONG.replace("noon", "midday"), "", True),
        ("Explain why the sky is blue", "", False),
        ("Hi", "What happens if one swallows a watermelon seed?", True),
        ("What happens", "It passes", False),
    ],
)
def test_what_is_found(evaluation: HeldOut, prompt: str, answer: str, found: bool) -> None:
    assert evaluation.has(ask(prompt, system="You are a helpful assistant."), ask(answer)) is found


def test_nothing_is_found_without_evaluation_data() -> None:
    assert not HeldOut([]).has(ask("Who are you?"))


def write(path: Path, *prompts: str) -> str:
    rows = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in prompts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_planted_duplicate_is_left_out_of_a_mixture_listed_and_counted(tmp_path: Path) -> None:
    gate = tmp_path / "gate.jsonl"
    gate.write_text(json.dumps({"prompt": "Who are you?"}) + "\n")
    data = write(tmp_path / "a.jsonl", "one", "Who are you?", "two", "three")
    done = mix_files(data, tmp_path / "mixed", exclude=[gate], rows=2)
    assert (dict(done.held_out), dict(done.taken), dict(done.not_drawn)) == (
        {"a": 1}, {"a": 2}, {"a": 1}
    )  # fmt: skip
    assert "Who are you?" not in (tmp_path / "mixed" / "mixed.jsonl").read_text()
    (left,) = map(json.loads, (tmp_path / "mixed" / "left_out.jsonl").read_text().splitlines())
    assert (left["reason"], left["origin"].rpartition(":")[2]) == ("in_evaluation", "2")
    contract = json.loads((tmp_path / "mixed" / "data.json").read_text())
    assert contract["counts"]["in_evaluation"] == {"a": 1}
    assert [entry["name"] for entry in contract["options"]["exclude"]] == ["gate.jsonl"]
    with pytest.raises(DataError, match="the mixture would be empty: in_evaluation 1"):
        mix_files(write(tmp_path / "b.jsonl", "who are you?"), tmp_path / "none", exclude=[gate])


def test_plain_text_is_left_out_too(tmp_path: Path) -> None:
    gate, data = tmp_path / "gate.jsonl", tmp_path / "texts.jsonl"
    gate.write_text(json.dumps({"prompt": LONG}) + "\n")
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in (f"{LONG}? {LONG}!", "one", "two")))
    # Two evaluations may use the same file.
    done = mix_files(
        str(data), tmp_path / "mixed", kind="demonstrations", exclude=[gate, tmp_path / "." / "gate.jsonl"]
    )
    assert (dict(done.held_out), dict(done.taken)) == ({"texts": 1}, {"texts": 2})


def test_evaluations_may_have_files_in_common(tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "gate.jsonl").write_text(json.dumps({"prompt": LONG}) + "\n")
    assert HeldOut([folder, folder / "gate.jsonl"]).has(ask(f"{LONG}, please"))
