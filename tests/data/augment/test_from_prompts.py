"""Pairs from prompts alone: what becomes of each answer, what a row says, and that a run can be continued."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_jsonl
from palate.data import load_records
from palate.data.augment.answers import ModelSource
from palate.data.augment.critique import CritiqueAndRevise
from palate.data.augment.delta import StrongOverWeak
from palate.data.augment.from_prompts import PromptAugmentation, augment_prompts
from palate.data.augment.gaps import Gaps
from palate.data.augment.made import Recipe
from palate.data.augment.principles import Principle
from palate.errors import ArtifactError, DataError, EngineError
from palate.records import Answer, DatasetRequest, Messages, PreferencePair
from runs import write_rows

DECODING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 9}
Reply = Callable[[Messages], str]


class Model:
    identity = "hash"

    def __init__(self, reply: Reply) -> None:
        self.asked: list[Messages] = []
        self._reply = reply

    def ask(self, prompts: Sequence[Messages], *, seed: int, tools: Sequence[str | None] | None = None) -> list[Answer]:
        self.asked += prompts
        return [Answer(self._reply(prompt), "length" if "long" in prompt[0].content else "stop") for prompt in prompts]


def source(name: str, reply: Reply, asked: list[Messages] | None = None) -> ModelSource:
    model = Model(reply)
    if asked is not None:
        model.asked = asked
    return ModelSource(name, DECODING, lambda: model)


def by_prompt(replies: dict[str, str]) -> Reply:
    return lambda prompt: replies[prompt[0].content]


def made(tmp_path: Path, recipe: Recipe, *texts: str, **how: Any) -> PromptAugmentation:
    path = write_rows(tmp_path / "prompts.jsonl", [{"prompt": text, "answer": "unread"} for text in texts])
    return augment_prompts(DatasetRequest(str(path)), tmp_path / "out", recipe, **how)


STRONG = {"q1": "a good answer", "q2": "Same.", "q3": "", "q4": "x", "long": "very good " * 9}
WEAK = {"q1": "bad", "q2": "Same", "q3": "bad", "q4": " ", "long": "la " * 30}


def delta(**asked: list[Messages]) -> StrongOverWeak:
    return StrongOverWeak(
        source("big", by_prompt(STRONG), asked.get("strong")), source("small", by_prompt(WEAK), asked.get("weak"))
    )


def test_the_stronger_answer_is_chosen_and_the_rest_is_counted(tmp_path: Path) -> None:
    done = made(tmp_path, delta(), "q1", "q2", "q3", "q4", "long", "q1", seed=7)
    assert (done.prompts, done.rows, done.asked, done.kept) == (6, 2, 10, 0)
    assert done.not_made == {"same_prompt": 1, "equal": 1, "empty_strong": 1, "empty_weak": 1}
    first = read_jsonl(tmp_path / "out" / "augmented.jsonl")[0]
    assert (first["chosen"][0]["content"], first["rejected"][0]["content"]) == ("a good answer", "bad")
    assert first["made"] == {
        "how": "delta",
        "source": "prompts.jsonl:1",
        "model": "big over small",
        "seed": 7,
        "note": "no judge: the stronger model's answer is chosen",
        "written_by": [
            {"text": "chosen", "model": "big", "identity": "hash", "finish_reason": "stop"},
            {"text": "rejected", "model": "small", "identity": "hash", "finish_reason": "stop"},
        ],
        "decoding": DECODING,
        "principle": "",
        "critique": "",
    }
    loaded = load_records(str(tmp_path / "out"), kind=PreferencePair)
    assert [pair.prompt[0].content for pair in loaded.records] == ["q1", "long"]
    contract = json.loads((tmp_path / "out" / "data.json").read_text())
    assert contract["counts"]["made"] == {"delta": 2}
    assert {drop["id"] for drop in contract["left_out"]} == {f"prompts.jsonl:{n}" for n in (2, 3, 4, 6)}


def test_the_quality_of_both_sides_is_reported(tmp_path: Path) -> None:
    done = made(tmp_path, delta(), "q1", "long")
    chosen, rejected = done.quality.chosen, done.quality.rejected
    assert chosen.characters is not None
    assert chosen.characters.mean == (13 + 89) / 2
    # The weak model's long answer repeats "la "; both long answers were cut at the token limit.
    assert (chosen.repeating, rejected.repeating) == (0.5, 0.5)
    assert (chosen.truncated, rejected.truncated) == (0.5, 0.5)
    assert any("no reward model was given" in line for line in done.quality.lines())

    def length(prompts: Sequence[Messages], completions: Sequence[str]) -> list[float | None]:
        return [None if text == "bad" else float(len(text)) for text in completions]

    scored = made(tmp_path, delta(), "q1", "long", reward=length, judge="length").quality
    assert (scored.unscored, scored.chosen_higher) == (1, 0.0)  # both have 89 characters
    assert scored.chosen.score is not None
    assert scored.chosen.score.mean == 89
    assert any(line.startswith("score by length") for line in scored.lines())
    kept = json.loads((tmp_path / "out" / "data.json").read_text())["options"]["quality"]
    assert kept["rejected"]["score"]["mean"] == 89


def test_a_run_that_was_interrupted_asks_for_the_rest_only(tmp_path: Path) -> None:
    names = [f"n{n}" for n in range(70)]
    alive = 40
    asked: list[Messages] = []

    def weak(prompt: Messages) -> str:
        if int(prompt[0].content[1:]) >= alive:
            raise EngineError("stopped")
        return f"bad {prompt[0].content}"

    def recipe() -> StrongOverWeak:
        return StrongOverWeak(source("big", lambda p: f"good {p[0].content}", asked), source("small", weak, asked))

    with pytest.raises(EngineError):
        made(tmp_path, recipe(), *names)
    rows = read_jsonl(tmp_path / "out" / "augmented.jsonl")
    assert len(rows) == 32  # the rows of the first chunk are there
    assert not (tmp_path / "out" / "data.json").exists()
    alive = 100
    asked.clear()
    done = made(tmp_path, recipe(), *names)
    assert (done.rows, len(asked)) == (70, 70 - 32)  # 32 answers in batches of 16 were kept, and all strong ones
    texts = [row["rejected"][0]["content"] for row in read_jsonl(tmp_path / "out" / "augmented.jsonl")]
    assert texts == [f"bad {name}" for name in names]
    asked.clear()
    before = (tmp_path / "out" / "augmented.jsonl").read_bytes()
    again = made(tmp_path, recipe(), *names)
    assert (again.asked, again.kept, asked) == (0, 140, [])
    assert (tmp_path / "out" / "augmented.jsonl").read_bytes() == before
    fewer = made(tmp_path, recipe(), *names[:3])
    assert (fewer.asked, fewer.rows) == (0, 3)
    assert len(load_records(str(tmp_path / "out"), kind=PreferencePair).records) == 3
    with pytest.raises(ArtifactError, match="was made with seed 0, not 1"):
        made(tmp_path, recipe(), *names, seed=1)


PRINCIPLE = Principle("It says why.")


def critic(prompt: Messages) -> str:
    """Turn 1: the answer. Turn 3: the critique. Turn 5: the revision, which names what was criticised."""
    asked = prompt[0].content
    if len(prompt) == 1:
        return "" if asked == "silent" else f"answer to {asked}"
    assert PRINCIPLE.text in prompt[-1].content
    assert prompt[1].content == f"answer to {asked}"
    if len(prompt) == 3:
        return {"fine": "NONE.", "mute": "  "}.get(asked, "It gives no reason.")
    assert prompt[3].content == "It gives no reason."
    return {"same": "answer to same.", "gone": "", "echo": "It gives no reason"}.get(
        asked, f"answer to {asked}, because"
    )


def test_the_revision_is_chosen_and_the_row_has_principle_and_critique(tmp_path: Path) -> None:
    asked: list[Messages] = []
    model = source("m", critic, asked)
    names = ("q1", "silent", "fine", "mute", "same", "gone", "echo")
    done = made(tmp_path, CritiqueAndRevise(model, model, (PRINCIPLE,)), *names)
    assert done.rows == 1
    assert done.not_made == {
        "empty_answer": 1,
        "nothing_to_revise": 1,
        "empty_critique": 1,
        "unchanged_revision": 1,
        "empty_revision": 1,
        "repeated_critique": 1,
    }
    (row,) = read_jsonl(tmp_path / "out" / "augmented.jsonl")
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("answer to q1, because", "answer to q1")
    made_by = row["made"]
    assert (made_by["how"], made_by["model"], made_by["principle"]) == ("critique", "m", "It says why.")
    assert made_by["critique"] == "It gives no reason."
    assert [one["text"] for one in made_by["written_by"]] == ["chosen", "rejected", "critique"]
    # 7 answers, 6 critiques (not of the silent one), 4 revisions.
    assert len(asked) == 17


def test_another_model_can_write_the_first_answers(tmp_path: Path) -> None:
    first: list[Messages] = []
    recipe = CritiqueAndRevise(source("w", critic, first), source("c", critic), (PRINCIPLE,))
    made(tmp_path, recipe, "q1", "q2")
    assert len(first) == 2
    (row, _) = read_jsonl(tmp_path / "out" / "augmented.jsonl")
    assert [one["model"] for one in row["made"]["written_by"]] == ["c", "w", "c"]


def test_each_prompt_has_one_principle_which_does_not_depend_on_the_others(tmp_path: Path) -> None:
    principles = tuple(Principle(f"Rule {n}.") for n in range(5))
    model = source("m", lambda prompt: f"{len(prompt)} {prompt[0].content}")
    names = [f"n{n}" for n in range(20)]
    made(tmp_path, CritiqueAndRevise(model, model, principles), *names)
    found = {
        row["made"]["source"]: row["made"]["principle"] for row in read_jsonl(tmp_path / "out" / "augmented.jsonl")
    }
    assert len(found) == 20
    assert len(set(found.values())) >= 3
    other = tmp_path / "other"
    other.mkdir()
    made(other, CritiqueAndRevise(model, model, principles), *names[:4])
    again = {row["made"]["source"]: row["made"]["principle"] for row in read_jsonl(other / "out" / "augmented.jsonl")}
    assert again == {name: found[name] for name in again}


def test_gaps_select_prompts(tmp_path: Path) -> None:
    replies = {"How do I bake bread with yeast?": "good", "Why is the sky blue?": "good"}
    recipe = replace(delta(), strong=source("big", by_prompt(replies)), weak=source("small", lambda _: "bad"))
    done = made(tmp_path, recipe, *replies, gaps=Gaps((("bread", "yeast", "dough"),), ()))
    assert (done.rows, done.not_made) == (1, {"not_in_gap": 1})
    with pytest.raises(DataError, match="no prompt is left: 2 not_in_gap"):
        made(tmp_path, recipe, *replies, gaps=Gaps((("lisp", "macro"),), ()))


def test_a_folder_of_something_else_is_not_touched_and_no_pair_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="was not written by palate data"):
        made(tmp_path, delta(), "q1")
    (tmp_path / "out" / "notes.txt").unlink()
    with pytest.raises(DataError, match="no pair was made of 2 prompts: 1 equal, 1 empty_strong"):
        made(tmp_path, delta(), "q2", "q3")
