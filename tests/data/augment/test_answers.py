"""Answers are kept one by one, and never asked for twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from palate.artifacts import read_jsonl
from palate.data.augment.answers import AnswerFile, ModelSource
from palate.errors import ArtifactError, EngineError, EngineRefused
from palate.records import Answer, Message, Messages


class Model:
    """Answers each prompt with its text in capitals; `fail` may raise instead."""

    def __init__(self, fail: Callable[[str], None] = lambda _: None, identity: str | None = None) -> None:
        self.identity = identity
        self.asked: list[str] = []
        self._fail = fail

    def ask(self, prompts: Sequence[Messages], *, seed: int, tools: Sequence[str | None] | None = None) -> list[Answer]:
        for prompt in prompts:
            self._fail(prompt[-1].content)
        self.asked += [prompt[-1].content for prompt in prompts]
        return [Answer(f" {prompt[-1].content.upper()} {seed}", "stop", 3) for prompt in prompts]


def source(model: Model, at_once: int = 1, name: str = "m") -> ModelSource:
    return ModelSource(name, {"temperature": 1.0}, lambda: model, at_once)


def prompts(*texts: str) -> list[Messages]:
    return [(Message("user", text),) for text in texts]


def asked(path: Path, model: Model, *texts: str, at_once: int = 1, seed: int = 0) -> list[str]:
    with AnswerFile(path, {"seed": seed}) as answers:
        return [kept.text for kept in answers.ask(source(model, at_once), prompts(*texts), seed=seed)]


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_second_run_asks_only_for_what_is_new(tmp_path: Path, at_once: int) -> None:
    path, model = tmp_path / "a.jsonl", Model(identity="h1")
    assert asked(path, model, "a", "b", at_once=at_once) == ["A 0", "B 0"]
    again = Model(identity="h1")
    assert asked(path, again, "b", "c", "a", at_once=at_once) == ["B 0", "C 0", "A 0"]
    assert again.asked == ["c"]
    rows = read_jsonl(path)
    assert rows[0] == {"settings": {"seed": 0}}
    assert [(row["model"], row["identity"], row["finish_reason"], row["tokens"]) for row in rows[1:]] == [
        ("m", "h1", "stop", 3)
    ] * 3


def test_a_model_is_not_loaded_if_everything_is_there(tmp_path: Path) -> None:
    asked(tmp_path / "a.jsonl", Model(), "a")

    def load() -> Model:
        raise AssertionError("it was loaded")

    with AnswerFile(tmp_path / "a.jsonl", {"seed": 0}) as answers:
        (kept,) = answers.ask(ModelSource("m", {"temperature": 1.0}, load), prompts("a"), seed=0)
    assert (kept.text, answers.asked, answers.kept_before) == ("A 0", 0, 1)


def test_what_was_answered_before_a_failure_is_kept(tmp_path: Path) -> None:
    def fail(text: str) -> None:
        if text == "p5":
            raise EngineError("the engine is gone")
        if int(text[1:]) > 5:
            time.sleep(0.2)  # so that the failure is known before all are answered

    names = [f"p{n}" for n in range(40)]
    first = Model(fail)
    with pytest.raises(EngineError, match="is gone"):
        asked(tmp_path / "a.jsonl", first, *names, at_once=2)
    assert 5 <= len(first.asked) < 39  # the others were not sent
    second = Model()
    assert asked(tmp_path / "a.jsonl", second, *names, at_once=2) == [f"{name.upper()} 0" for name in names]
    assert sorted(first.asked + second.asked) == sorted(names)


def test_a_killed_process_leaves_a_file_that_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    asked(path, Model(), "a", "b")
    path.write_bytes(path.read_bytes()[:-9])  # the last row is cut
    model = Model()
    assert asked(path, model, "a", "b") == ["A 0", "B 0"]
    assert model.asked == ["b"]


def test_one_refused_prompt_is_kept_as_refused(tmp_path: Path) -> None:
    def fail(text: str) -> None:
        if text == "long":
            raise EngineRefused("the prompt is too long")

    with AnswerFile(tmp_path / "a.jsonl", {}) as answers:
        given = answers.ask(source(Model(fail), 2), prompts("a", "long", "b"), seed=0)
    assert [(kept.text, kept.refused) for kept in given] == [
        ("A 0", ""),
        ("", "the prompt is too long"),
        ("B 0", ""),
    ]
    again = Model()
    with AnswerFile(tmp_path / "a.jsonl", {}) as answers:
        assert answers.ask(source(again, 2), prompts("long"), seed=0) == [given[1]]
    assert again.asked == []


def test_an_engine_that_refuses_everything_is_an_error_after_a_few_requests(tmp_path: Path) -> None:
    sent: list[str] = []

    def fail(text: str) -> None:
        sent.append(text)
        raise EngineRefused("refused the key (401)")

    with pytest.raises(EngineRefused, match="401"):
        asked(tmp_path / "a.jsonl", Model(fail), *map(str, range(100)), at_once=4)
    assert sent == ["0", "1", "2"]
    assert len(read_jsonl(tmp_path / "a.jsonl")) == 1
    with pytest.raises(EngineRefused, match="401"):
        asked(tmp_path / "a.jsonl", Model(fail), "one", at_once=4)


def test_other_settings_or_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    asked(path, Model(identity="h1"), "a")
    with pytest.raises(ArtifactError, match="was made with seed 0, not 1; name another --output"):
        asked(path, Model(), "a", seed=1)
    with pytest.raises(ArtifactError, match="m had other weights"):
        asked(path, Model(identity="h2"), "b")
    path.write_text(json.dumps({"key": "x"}) + "\n")
    with pytest.raises(ArtifactError, match="has no settings"):
        asked(path, Model(), "a")
