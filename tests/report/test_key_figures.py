"""The figures at the top of a report say what they were counted on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from palate.artifacts import write_json
from palate.report.contents import read_contents
from palate.report.key_figures import cards
from palate.report.pages.run import accuracy_note

SHARE = {"estimate": 0.6, "low": 0.5, "high": 0.7, "level": 0.95, "n": 50}


def test_pairs_and_prompts_are_counted() -> None:
    assert accuracy_note({"n": 250}).startswith("250 held-out pairs, ")  # a file of an earlier version
    assert accuracy_note({"n": 250, "prompts": 50}).startswith("250 held-out pairs of 50 prompts, ")


def test_key_figures_say_how_many_prompts_they_rest_on(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run")
    write_json(run / "accuracy.json", {"n": 250, "prompts": 50, "policy": SHARE, "reference": SHARE})
    notes = {card.label: card.note for card in cards(read_contents(run))}
    assert notes["Held-out accuracy"] == "95 % 50.0 to 70.0 %, before: 60.0 %, 250 held-out pairs of 50 prompts"
    assert notes["Reward accuracy"].endswith(", 24 held-out pairs of 24 prompts")
    write_json(run / "accuracy.json", {"n": 20, "prompts": 9, "reward": SHARE})
    notes = {card.label: card.note for card in cards(read_contents(run))}
    assert notes["Held-out accuracy"] == "of the reward model, 95 % 50.0 to 70.0 %, 20 held-out pairs of 9 prompts"
