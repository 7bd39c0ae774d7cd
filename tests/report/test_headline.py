"""The figures at the top of a report say what they were counted on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate.artifacts import write_json
from palate.report.contents import read_contents
from palate.report.headline import cards, pairs_of_prompts
from palate.report.run import accuracy_note

SHARE = {"estimate": 0.6, "low": 0.5, "high": 0.7, "level": 0.95, "n": 50}


def test_pairs_and_prompts_are_counted() -> None:
    assert pairs_of_prompts({"n": 250, "prompts": 50}) == "250 held-out pairs of 50 prompts"
    assert pairs_of_prompts({"n": 250}) == "250 held-out pairs"  # a file of an earlier version
    assert pairs_of_prompts({}) == "held-out pairs"
    assert accuracy_note({"n": 250, "prompts": 50}).startswith("250 held-out pairs of 50 prompts, ")


def test_key_figures_say_how_many_prompts_they_rest_on(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    data = {"train_groups": 600, "train_prompts": 300, "eval_groups": 24, "eval_prompts": 12}
    run = make_run(tmp_path / "run", run={"data": data})
    write_json(run / "accuracy.json", {"n": 250, "prompts": 50, "policy": SHARE, "reference": SHARE})
    notes = {card.label: card.note for card in cards(read_contents(run))}
    assert notes["Held-out accuracy"] == "before: 60.0 %; 250 held-out pairs of 50 prompts"
    assert notes["Reward accuracy"] == notes["Reward margin"] == "24 held-out groups of 12 prompts"
    write_json(run / "accuracy.json", {"n": 20, "prompts": 9, "reward": SHARE})
    notes = {card.label: card.note for card in cards(read_contents(run))}
    assert notes["Held-out accuracy"] == "of the reward model; 20 held-out pairs of 9 prompts"


def test_runs_of_an_earlier_version_have_no_prompts(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    notes = {card.label: card.note for card in cards(read_contents(make_run(tmp_path / "run")))}
    assert notes["Reward accuracy"] == "held-out pairs"
