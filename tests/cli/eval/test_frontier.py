"""`palate eval frontier`, end to end on a tiny run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_jsonl
from palate.cli.main import main
from runs import run, write_rows
from tiny import save_tiny, tiny_tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a run with checkpoints, a reward model and prompts, one of which is none."""
    folder = tmp_path_factory.mktemp("frontier")
    model = save_tiny(folder / "model", initializer_range=0.2)
    run(model, folder / "dpo", rows=8, max_steps=2, save_strategy="steps", save_steps=1, save_total_limit=5)
    run(model, folder / "rm", stage="rm", rows=8, max_steps=1)
    asked: list[dict[str, Any]] = [{"prompt": "what is it"}, {"answer": "no question"}, {"prompt": "why is that"}]
    write_rows(folder / "prompts.jsonl", asked)
    (folder / "odd.py").write_text(
        "def fails(prompts, completions):\n    return 1 / 0\n\n"
        "def few(prompts, completions):\n    return [1.0]\n\n"
        "def nan(prompts, completions):\n    return [float('nan')] * len(completions)\n"
    )
    return folder


def words(place: Path, *changed: str, models: tuple[str, ...] = ("dpo",), reward: str = "length:longer") -> list[str]:
    named = [str(place / model) for model in models]
    options = ["--prompts", str(place / "prompts.jsonl"), "--reward", reward, "--precision", "fp32"]
    return ["eval", "frontier", *named, *options, "--max-new-tokens", "6", "--k", "2", *changed]


def test_true_and_learned_reward_of_every_checkpoint(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, learned = tmp_path / "out", str(place / "rm")
    assert main(words(place, "--reward", learned, "--checkpoints", "--output", str(out), "--json")) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "missing_prompt" in said.err
    assert [point["name"] for point in found["points"]] == ["reference", "dpo/checkpoint-1", "dpo"]
    assert found["rewards"] == ["length:longer", learned]
    assert found["points"][0]["kl"]["estimate"] == 0
    assert all(point["kl"]["estimate"] > 0 for point in found["points"][1:])
    assert json.loads((out / "frontier.json").read_text()) == found
    rows = read_jsonl(out / "answers.jsonl")
    assert len(rows) == 3 * 2 * 2
    assert {(row["prompt"], row["prompt_id"].rpartition(":")[2]) for row in rows} == {(0, "1"), (1, "3")}
    end = [row for row in rows if row["point"] == "dpo"]
    mean = sum(row["rewards"][learned] for row in end) / 4
    assert found["points"][2]["rewards"][learned]["estimate"] == pytest.approx(mean)
    assert "<script" not in (out / "report.html").read_text()


def test_a_table_for_people_and_the_same_answers_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = ["--reference", str(place / "model"), "--template", "chatml"]
    said = []
    for _ in range(2):
        assert main(words(place, *bare, models=("model", "dpo/checkpoint-1"))) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "reward against KL" in said[0]
    assert "dpo/checkpoint-1" in said[0]


@pytest.mark.parametrize(
    ("changed", "code", "told"),
    [
        ({"reward": "length:sideways"}, 2, "--reward: length:sideways is not one of"),
        ({"reward": "nonsense"}, 2, "--reward: nonsense is not a rule, a function or a folder"),
        ({"reward": "odd.py:fails"}, 1, "failed in odd.py:2: ZeroDivisionError"),
        ({"reward": "odd.py:few"}, 1, "gave 1 for 4; it must give one score for each answer"),
        ({"reward": "odd.py:nan"}, 1, "gave nan for the answer"),
        ({"options": ["--x-scale", "cubic"]}, 2, "'cubic' is not one of 'sqrt', 'linear', 'log'"),
        ({"options": ["--reward", "length:longer"]}, 2, "--reward length:longer is named twice"),
        ({"options": ["--cutoff-len", "7"]}, 1, "no prompt leaves room"),
        ({"options": ["--prompts", "absent.jsonl"]}, 2, "absent.jsonl"),
        ({"models": ("dpo", "dpo")}, 2, "two points are called dpo"),
        ({"models": ("absent",)}, 2, "no such model folder"),
        ({"models": ("other",)}, 2, "without a run there is no known reference"),
        ({"models": ("dpo", "other")}, 1, "other: its tokenizer is not that of the reference"),
    ],
)
def test_mistakes_are_one_line(
    place: Path,
    changed: dict[str, Any],
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    if not (place / "other").exists():
        save_tiny(place / "other", tokenizer=tiny_tokenizer(texts=["zebra quagga okapi"] * 9))
    options = changed.pop("options", [])
    assert main(words(place, *options, **changed)) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if "palate: error" in line]
    assert len(errors) == 1
    assert told in errors[0]


def test_a_strange_output_folder_is_refused_before_anything_is_loaded(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main(words(place, "--output", str(tmp_path))) == 1
    said = capsys.readouterr().err
    assert "holds files that are no frontier (mine.txt)" in said
    assert "loading" not in said
