"""Cards on disk and in the store, and which judge a card is about."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from judged_world import ChattyJudge, RuleJudge, always_first, knows, people, world
from palate.errors import ArtifactError, DataError
from palate.feedback.calibration import (
    Extent,
    JudgeCard,
    load_card,
    measure,
    newest_card,
    save_card,
    unmeasured_note,
    write_card,
)
from palate.feedback.calibration.card import JudgeIdentity, identity_of
from palate.feedback.judges.load import load_judge
from palate.store import open_store


@pytest.fixture(scope="module")
def card() -> JudgeCard:
    rows = world(20)
    rows = [replace(row, columns={"models": ["a", "b"]}) for row in rows]
    judge = ChattyJudge(knows, {"one": knows, "two": knows, "three": always_first}, again=knows)
    return measure(judge, rows, people(rows), inputs={"c.jsonl": "0" * 64}, extent=Extent(canaries=3, repeats=5))


def test_a_card_survives_the_disk(card: JudgeCard, tmp_path: Path) -> None:
    write_card(card, tmp_path / "card.json")
    assert load_card(tmp_path / "card.json") == card
    content = json.loads((tmp_path / "card.json").read_text())
    assert (content["schema"], content["judge"]["name"], content["models"]["models"][0]["model"]) == (
        1,
        "openai:gpt-x",
        "a",
    )
    assert "NaN" not in (tmp_path / "card.json").read_text()


def test_what_is_no_card_is_named(card: JudgeCard, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with pytest.raises(ArtifactError, match="no such file"):
        load_card(path)
    for content, said in (
        ({"votes": 3}, "not a judge card; `palate judge calibrate` writes one"),
        ([], "not a judge card"),
        ({**card.to_json(), "schema": 2}, r"newer palate \(schema 2, here 1\); update palate"),
        ({**card.to_json(), "questions": "many"}, "not a judge card: questions: .*measure the judge again"),
        ({**card.to_json(), "verdict": "fine"}, "not a judge card: verdict"),
        ({key: value for key, value in card.to_json().items() if key != "canaries"}, "canaries: Field required"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=rf"card\.json: .*{said}"):
            load_card(path)


def test_the_store_finds_the_card_of_exactly_this_judge(card: JudgeCard, tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/p.db")
    older = replace(card, when="2026-01-01T00:00:00Z", questions=1)
    store.write(lambda session: save_card(session, card))
    store.write(lambda session: save_card(session, older))
    store.write(lambda session: save_card(session, card))
    assert store.read(lambda session: newest_card(session, card.judge)) == card
    for other in ({"name": "openai:other"}, {"model": "gpt-y"}, {"prompt_hash": "abd"}):
        identity = replace(card.judge, **other)
        assert store.read(lambda session, identity=identity: newest_card(session, identity)) is None
    store.close()


def test_an_unmeasured_judge_is_named(card: JudgeCard, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/p.db"
    judge = ChattyJudge(knows, {}, again=knows)
    unmeasured = "judge openai:gpt-x was not measured against people's votes; palate judge calibrate measures it"
    assert unmeasured_note(judge, url) == unmeasured
    assert not (tmp_path / "p.db").exists(), "a note creates no database"
    store = open_store(url)
    assert unmeasured_note(judge, url) == unmeasured
    store.write(lambda session: save_card(session, card))
    note = unmeasured_note(judge, url)
    assert note is not None
    assert note.startswith(f"judge openai:gpt-x may not decide alone by its card of {card.when}: fewer than 100")
    assert unmeasured_note(RuleJudge(knows, "openai:gpt-x"), url) == unmeasured, "of another prompt"
    good = replace(card, when="2027-01-01T00:00:00Z", verdict="may_decide_alone", reasons=())
    store.write(lambda session: save_card(session, good))
    assert unmeasured_note(judge, url) is None
    assert unmeasured_note(judge, f"{url}?synchronous=full") is None, (
        "an option of the URL is no part of the file's name"
    )
    store.close()
    (tmp_path / "broken.db").write_text("not a database at all, but long enough to be read as one" * 20)
    broken = unmeasured_note(judge, f"sqlite:///{tmp_path}/broken.db")
    assert broken is not None
    assert broken.startswith(f"{unmeasured} (")


def test_a_rule_is_identified_by_the_content_of_its_file(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("thanks\n")
    first = identity_of(load_judge(f"lexicon:{words}"))
    words.write_text("thanks\nplease\n")
    second = identity_of(load_judge(f"lexicon:{words}"))
    assert (first.name, bool(first.model)) == (second.name, True)
    assert first.model != second.model
    assert identity_of(load_judge("length:longer")) == JudgeIdentity("length:longer")
