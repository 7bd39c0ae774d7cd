"""Prompts in training data, found by the whole prompt and by 13 words in a row."""

from __future__ import annotations

from pathlib import Path

from palate.evaluation.winrate.leaks import PromptIndex, leaks_of
from palate.evaluation.winrate.sides import read_side
from palate.records import Message, Messages, Record

THIRTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen"


def ask(*texts: str, system: str = "") -> Messages:
    turns = [Message("system", system)] if system else []
    return (*turns, *(Message("user", text) for text in texts))


def index(*prompts: Messages) -> PromptIndex:
    return PromptIndex([Record(id=f"p:{number}", prompt=prompt) for number, prompt in enumerate(prompts, 1)])


def test_same_prompt_in_other_letters_and_with_another_system_turn() -> None:
    made = index(ask("What is  it?", system="Be kind."), ask("Why?"))
    assert made.find([ask("what is it?"), ask("how?")]) == {"p:1": "same"}


def test_thirteen_words_in_common_and_not_twelve() -> None:
    made = index(ask(f"Say {THIRTEEN} now"), ask(f"{THIRTEEN} again"), ask(THIRTEEN.rpartition(" ")[0]))
    found = made.find([ask(f"please count: {THIRTEEN}, thanks")])
    assert found == {"p:1": "run", "p:2": "run"}
    assert made.find([ask(f"please count: {THIRTEEN.rpartition(' ')[0]} and on")]) == {}


def test_a_shared_system_turn_is_no_leak() -> None:
    made = index(ask("Why is the sky blue?", system=THIRTEEN))
    assert made.find([ask("How do birds fly?", system=THIRTEEN)]) == {}


def test_the_held_out_prompts_of_a_run_are_not_trained_on(finished: Path) -> None:
    from palate.evaluation.accuracy.held_out import held_out_pairs, trained_prompts
    from palate.evaluation.subject import read_run
    from palate.records import prompt_key

    read = read_run(finished)
    trained = {prompt_key(prompt) for prompt in trained_prompts(read)}
    held_out = held_out_pairs(read)
    assert held_out
    assert not trained & {prompt_key(pair.prompt) for pair in held_out}
    asked = [Record(id="held", prompt=held_out[0].prompt), Record(id="trained", prompt=trained_prompts(read)[0])]
    assert leaks_of(read_side(str(finished)), PromptIndex(asked)).found == {"trained": "same"}


def test_data_that_is_gone_is_said(finished: Path, tmp_path: Path) -> None:
    import json
    import shutil

    moved = tmp_path / "run"
    shutil.copytree(finished, moved)
    facts = json.loads((moved / "run.json").read_text())
    facts["config"]["dataset"] = str(tmp_path / "gone.jsonl")
    (moved / "run.json").write_text(json.dumps(facts))
    found = leaks_of(read_side(str(moved)), index(ask("x")))
    assert found.found == {}
    assert "gone.jsonl" in found.reason
