"""A chat of a person at the keyboard with models of a few lines: what is shown to them, kept, taken back and saved."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_jsonl
from palate.cli.chat.answers import Compared, Dialogue, Single
from palate.cli.chat.session import ChatSession
from palate.errors import DataError
from palate.feedback.page.save import PreferenceFile
from palate.models.generation.decoding import Decoding
from palate.records import Answer, Messages
from streams import Fake

Texts = list[tuple[str, str]]


class Person:
    """Types lines, then ends the input; presses keys."""

    def __init__(self, *lines: str, keys: str = "") -> None:
        self.lines, self.keys = iter(lines), iter(keys)

    def ask(self, _: str) -> str:
        try:
            return next(self.lines)
        except StopIteration:
            raise EOFError from None

    def key(self) -> str:
        return next(self.keys)


def chat(*lines: str, model: Fake | None = None, **settings: Any) -> tuple[Fake, Dialogue]:
    model = model or Fake(write=lambda prompt: f"re {prompt[-1].content}")
    dialogue = Dialogue(Decoding(8, 1.0), **settings)
    ChatSession(dialogue, Single(model), ask=Person(*lines).ask).run()
    return model, dialogue


def texts(prompt: Messages) -> Texts:
    return [(message.role, message.content) for message in prompt]


def test_every_question_is_asked_with_what_was_said_before(capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = chat("one", "  two ", "", "/undo", "three", "/reset", "four", system="be kind")
    system = ("system", "be kind")
    first: Texts = [("user", "one"), ("assistant", "re one")]
    assert [texts(prompt) for prompt in model.prompts] == [
        [system, ("user", "one")],
        [system, *first, ("user", "two")],
        [system, *first, ("user", "three")],
        [system, ("user", "four")],
    ]
    assert len(set(model.seeds)) == 4, "a question that is asked again has another answer"
    said = capsys.readouterr().out
    assert "taken back: two" in said
    assert "re four\n" in said


def test_the_system_prompt_and_the_temperature_can_be_changed(capsys: pytest.CaptureFixture[str]) -> None:
    model, dialogue = chat("/system speak  French", "/temperature 0.25", "salut", "/system", "bye", "/temperature")
    assert texts(model.prompts[0]) == [("system", "speak  French"), ("user", "salut")]
    assert texts(model.prompts[1])[0] == ("user", "salut")
    assert dialogue.decoding.temperature == 0.25
    assert capsys.readouterr().out.count("the temperature is 0.25") == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/temprature 1", "/temprature is no command; /help lists them"),
        ("/temperature hot", "/temperature hot: write a number from 0"),
        ("/temperature -1", "/temperature -1: write a number from 0"),
        ("/temperature nan", "/temperature nan: write a number from 0"),
        ("/undo", "there is nothing to take back"),
    ],
)
def test_a_wrong_command_changes_nothing(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, dialogue = chat(line, "hi")
    assert message in capsys.readouterr().err
    assert dialogue.decoding.temperature == 1.0
    assert len(model.prompts) == 1


def test_a_question_without_an_answer_is_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    refuses = Fake(fails=DataError("the chat template refuses the conversation"))
    _, dialogue = chat("hi", model=refuses)
    assert dialogue.exchanges == []
    assert "palate: error: the chat template refuses" in capsys.readouterr().err


def test_bytes_that_are_no_text_are_refused_and_the_chat_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    # As `input` reads the bytes ff fe at a terminal.
    model, _ = chat("one", "bad \udcff\udcfe", "/system \udcff", "two", "/system", "three")
    assert [prompt[-1].content for prompt in model.prompts] == ["one", "three"]
    said = capsys.readouterr().err
    assert "palate: error: the question is no text in UTF-8, at character 5" in said
    assert "palate: error: the system prompt is no text in UTF-8" in said


class Stopped(Fake):
    """The person presses Ctrl-C after its first piece."""

    def stream(self, prompt: Messages, decoding: Decoding, seed: int, on_text: Callable[[str], None]) -> Answer:
        on_text("half an")
        raise KeyboardInterrupt


def test_a_stopped_answer_stays_as_far_as_it_goes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    _, dialogue = chat("hi", model=Stopped())
    assert [exchange.answer for exchange in dialogue.exchanges] == ["half an"]
    assert "stopped" in capsys.readouterr().err


# ---- two models


def compare(
    folder: Path, *lines: str, keys: str, blind: bool = False, models: tuple[Fake, Fake] | None = None
) -> tuple[Dialogue, list[dict[str, Any]]]:
    first = Fake(name="one", write=lambda prompt: f"yes {prompt[-1].content}")
    second = Fake(name="two", write=lambda prompt: f"no {prompt[-1].content}")
    person = Person(*lines, keys=keys)
    dialogue = Dialogue(Decoding(8, 1.0), "be kind")
    order = random.Random(0) if blind else None
    with PreferenceFile(folder / "pairs.jsonl") as file:
        ChatSession(dialogue, Compared(*(models or (first, second)), order, person.key), file, person.ask).run()
    return dialogue, read_jsonl(folder / "pairs.jsonl")


def test_a_choice_that_is_taken_back_is_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, rows = compare(tmp_path, "p", "/undo", "p", "q", "/undo", keys="bat")
    assert len(rows) == 1
    assert "preferred: one 1, two 0; ties 0, none 0" in capsys.readouterr().out


def test_the_chosen_answer_continues_and_the_pair_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dialogue, rows = compare(tmp_path, "p", "q", "r", "s", keys="xb\rtna")
    kept = [(exchange.question, exchange.answer) for exchange in dialogue.exchanges]
    assert kept == [("p", "no p"), ("q", "yes q"), ("s", "yes s")], "a tie goes on from the first, none from neither"
    said = [{"from": "system", "value": "be kind"}, {"from": "human", "value": "p"}]
    assert rows[0] == {"conversations": said, "chosen": "no p", "rejected": "yes p"}
    assert [turn["value"] for turn in rows[1]["conversations"]] == ["be kind", "p", "no p", "q", "yes q", "s"]
    assert (rows[1]["chosen"], rows[1]["rejected"], len(rows)) == ("yes s", "no s", 2)
    assert "preferred: one 1, two 1; ties 1, none 1" in capsys.readouterr().out


def test_a_pair_that_is_taken_back_leaves_the_file(tmp_path: Path) -> None:
    _, rows = compare(tmp_path, "p", "q", "/undo", "r", keys="aab")
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("yes p", "no p"), ("no r", "yes r")]


def test_blind_answers_change_places_and_hide_the_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, rows = compare(tmp_path, *"pqrstuvw", keys="a" * 8, blind=True)
    assert {row["chosen"].split()[0] for row in rows} == {"yes", "no"}
    shown, _, summary = capsys.readouterr().out.partition("preferred")
    assert "one" not in shown.replace("none", "")
    assert "── A\n" in shown
    won = [sum(row["chosen"].startswith(word) for row in rows) for word in ("yes", "no")]
    assert f": one {won[0]}, two {won[1]};" in summary, "each choice is counted for the model that wrote it"
    compare(tmp_path, "p", keys="a")
    assert "── A (one)\nyes p\n" in capsys.readouterr().out


def test_equal_answers_are_a_tie_without_a_question(tmp_path: Path) -> None:
    dialogue, rows = compare(tmp_path, "p", keys="", models=(Fake("same"), Fake("same", name="b")))
    assert [exchange.answer for exchange in dialogue.exchanges] == ["same"]
    assert rows == []


def test_a_failed_answer_is_no_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dialogue, rows = compare(tmp_path, "p", keys="", models=(Fake("fine"), Fake(" ", name="b")))
    assert (dialogue.exchanges, rows) == ([], [])
    assert "no two answers to compare; B (b): the model wrote no text" in capsys.readouterr().err


def test_one_model_twice_at_temperature_zero_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Fake("x")
    dialogue, _ = compare(tmp_path, "/temperature 0", "p", keys="", models=(model, model))
    assert dialogue.exchanges == []
    assert "gives equal answers; raise the temperature" in capsys.readouterr().err
