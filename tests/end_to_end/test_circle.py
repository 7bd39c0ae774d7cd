"""The whole circle: people talk, correct and vote, a model learns from it, and the gate decides whether it is deployed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from loop_world import PROMPTS, World
from palate.artifacts import read_json, read_jsonl
from palate.data.formats.writers import write_rows
from palate.registry import add, find, promote, verdicts
from palate.store import Store
from palate.store.loop_tables import Cycle
from tiny import save_tiny, tiny_tokenizer

GATE = f"""
prompts: heldout.jsonl
n: {PROMPTS}
judge: lexicon:good,-bad
judge_card: false
decoding: {{max_new_tokens: 8}}
length_ratio: [0.1, 10]
empty_or_repeated: 1
consistency: 0
"""
TRAIN = """
stage: dpo
model_name_or_path: set by the cycle
dataset: set by the cycle
output_dir: set by the cycle
pref_ftx: 1.0
max_steps: 24
per_device_train_batch_size: 4
learning_rate: {rate}
save_strategy: "no"
sample_prompts: 0
report_to: none
"""
LOOP = """
name: support
schedule: none
collect: {at_least: 5, sample: 4, settle_minutes: 0}
candidates: {max_new_tokens: 8}
annotate: {judge: "lexicon:good,-bad"}
train: train.yaml
gate: gate.yaml
deploy: on_pass
force_days: 0
options: {from-interactions: --share-per-user 1}
"""


class Real(World):
    """A loop whose commands all run, in this process."""

    def run(self, words: Sequence[str], log: Path) -> int:
        self.commands.append(tuple(words))
        return self.palate(*words, log=log)


@pytest.fixture
def world(tmp_path: Path, sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> Real:
    """A tiny random model in production; its current folder and database are those of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALATE_STORE", sqlite_store.engine.url.render_as_string(hide_password=False))
    held_out = [{"prompt": f"held out prompt with the number {number}"} for number in range(PROMPTS)]
    write_rows(tmp_path / "heldout.jsonl", held_out)
    for name, text in (("gate.yaml", GATE), ("train.yaml", TRAIN.format(rate=0.01)), ("loop.yaml", LOOP)):
        (tmp_path / name).write_text(text)
    texts = ["good good bad bad question about the weather held out prompt with the number"] * 9
    first = save_tiny(tmp_path / "first", tokenizer=tiny_tokenizer(texts=texts))
    add(sqlite_store, first, models_dir=tmp_path / "models", who="ann")
    promote(sqlite_store, "v1.0", reason="first", who="ann")
    return Real(tmp_path, sqlite_store)


def correct(world: Real, better: str, answer: str, count: int = 16) -> None:
    """People ask, get an answer, and correct it."""
    for number in range(count):
        prompt = f"question {number} about the weather"
        said = world.recording.complete(answer, prompt=prompt, user=f"user {number}", model="v1.0")
        world.recording.rate(said, edit=better)
    world.talk(1)


def outcome(world: Real) -> tuple[str | None, str]:
    """Of the first cycle: how it ended, and the verdict."""
    ended = world.store.read(lambda session: session.scalars(select(Cycle.outcome)).one())
    (verdict,) = world.store.read(verdicts)
    return ended, verdict.outcome


def test_what_people_say_is_learnt_and_deployed(world: Real) -> None:
    correct(world, "good good good good good good", "bad bad bad bad bad bad")
    ticked = world.tick()
    assert ticked.failed is None
    assert ticked.outcome == "deployed"
    assert outcome(world) == ("deployed", "PASS")
    assert find(world.store, "production").name == "v1.1"
    assert find(world.store, "previous").name == "v1.0"
    folder = world.folder / "cycles" / "0001"
    counts = {row["source"]: row["rows"] for row in read_json(folder / "pairs" / "mix" / "data.json")["counts"]["comparisons"]}
    assert counts["edits"] == 16
    drawn = read_jsonl(folder / "sample" / "candidates.jsonl")
    assert all(0 < row["columns"]["inclusion_probability"] <= 1 for row in drawn)


def test_a_candidate_of_swapped_labels_is_stopped(world: Real) -> None:
    correct(world, "bad bad bad bad bad bad", "good good good good good good")
    assert world.tick().outcome == "rejected"
    assert outcome(world) == ("rejected", "FAIL")
    assert find(world.store, "production").name == "v1.0"
    report = read_json(world.folder / "cycles" / "0001" / "debug" / "debug.json")
    assert report["verdict"]["outcome"] == "FAIL"


def test_an_equal_candidate_is_not_promoted(world: Real) -> None:
    (world.folder / "train.yaml").write_text(TRAIN.format(rate=1e-9))
    correct(world, "good good good good good good", "bad bad bad bad bad bad")
    assert world.tick().outcome == "rejected"
    assert outcome(world) == ("rejected", "INCONCLUSIVE")
    assert find(world.store, "production").name == "v1.0"
