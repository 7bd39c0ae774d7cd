"""What becomes a row, what is left out and why, and that the same store gives the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import file_hash, read_jsonl
from palate.data.load import load_records
from palate.errors import DataError
from palate.feedback.candidates import read_candidates
from palate.feedback.transfer import import_files
from palate.records import LabelledCompletion, PreferencePair
from palate.serving.from_interactions import Options, from_interactions
from palate.serving.recording import RecordedChoice
from palate.store import Store
from palate.store.tables import CampaignItem, VoteRow
from recorded import START, Recording

EVALUATED = "How many legs do eight spiders have in total, if none of them lost any?"


def fill(recording: Recording) -> dict[str, str]:
    """One interaction of each kind by name."""
    made = {
        "up": recording.complete("Good.", prompt="P up"),
        "down": recording.complete("Bad.", prompt="P down"),
        "edit": recording.complete("Teh answer", prompt="P edit"),
        "choice": recording.complete("first", "second", prompt="P choice"),
        "none": recording.complete("unrated", prompt="P none"),
        "same": recording.complete("Same.", prompt="P same"),
        "no_consent": recording.complete(consent=False),
        "metadata": recording.complete(policy="metadata"),
        "open": recording.reserve(),
        "shadow": recording.complete("unseen", route="shadow:v2"),
        "partial": recording.reserve(),
        "long": recording.reserve(prompt="P long"),
        "eval": recording.complete("Fine.", prompt=EVALUATED),
    }
    recording.recorder.update(made["partial"], "partial", [RecordedChoice("half", None)])
    recording.recorder.update(made["long"], "complete", [RecordedChoice("cut off", "length")])
    for name in ("up", "no_consent", "metadata", "open", "partial", "eval"):
        recording.rate(made[name], thumbs="up")
    recording.rate(made["down"], thumbs="up")
    recording.rate(made["down"], thumbs="down")
    recording.rate(made["edit"], edit="The answer")
    recording.rate(made["choice"], chosen=1)
    recording.rate(made["same"], edit="Same")
    return made


def test_what_becomes_a_row_and_what_is_left_out(store: Store, tmp_path: Path) -> None:
    made = fill(Recording(store))
    exclude = tmp_path / "eval.jsonl"
    exclude.write_text(json.dumps({"prompt": EVALUATED}))
    done = from_interactions(store, tmp_path / "out", Options(share_per_user=1, exclude=[exclude]))
    assert dict(done.left_out) == {
        "answers_not_ended": 1, "edit_of_equal_answers": 1, "in_excluded": 1, "no_consent": 1,
        "shadow": 1, "state_partial": 1, "state_reserved": 1, "texts_not_recorded": 1,
    }  # fmt: skip
    assert (done.interactions, done.usable, done.people) == (13, 6, 1)
    assert dict(done.sources) == {"choice": 1, "down": 1, "edit": 1, "up": 1}
    pairs = load_records(str(tmp_path / "out" / "pairs.jsonl"), kind=PreferencePair).records
    texts = {(pair.prompt[0].content, pair.chosen[0].content, pair.rejected[0].content) for pair in pairs}
    assert texts == {("P edit", "The answer", "Teh answer"), ("P choice", "second", "first")}
    labelled = load_records(str(tmp_path / "out" / "kto.jsonl"), kind=LabelledCompletion).records
    assert {(row.prompt[0].content, row.completion[0].content, row.desirable) for row in labelled} == {
        ("P up", "Good.", True), ("P down", "Bad.", False),
    }  # fmt: skip
    lineage = next(row for row in read_jsonl(tmp_path / "out" / "pairs.jsonl") if row["lineage"]["source"] == "edit")
    assert lineage["lineage"]["interaction"] == made["edit"]
    manifest = json.loads((tmp_path / "out" / "data.json").read_text())
    assert manifest["counts"]["left_out"] == dict(done.left_out)
    assert manifest["options"]["exclude"] == [{"name": "eval.jsonl", "sha256": file_hash(exclude)}]
    assert load_records(str(tmp_path / "out"), kind=PreferencePair).records, "the folder is a dataset of pairs"


def test_a_second_run_gives_the_same_bytes(sqlite_store: Store, tmp_path: Path) -> None:
    fill(Recording(sqlite_store))
    options = Options(sample=4, seed=3)
    contents = []
    for name in ("a", "b", "a"):
        from_interactions(sqlite_store, tmp_path / name, options)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1] == contents[2]
    assert set(contents[0]) == {"pairs.jsonl", "kto.jsonl", "candidates.jsonl", "data.json"}


def test_candidates_carry_their_probability_into_a_campaign(sqlite_store: Store, tmp_path: Path) -> None:
    recording = Recording(sqlite_store)
    made = fill(recording)
    everything = Options(sample=14, share_per_user=1)  # 7 of 7 uniform
    from_interactions(sqlite_store, tmp_path / "all", everything)
    rows = read_candidates(tmp_path / "all" / "candidates.jsonl")
    assert {row.id for row in rows} == {made[name] for name in ("up", "down", "edit", "choice", "none", "same", "eval")}
    import_files(sqlite_store, tmp_path / "all" / "candidates.jsonl", campaign="c")
    item = sqlite_store.read(lambda session: session.query(CampaignItem).filter_by(name=made["choice"]).one())
    assert item.columns["inclusion_probability"] == 1
    vote = VoteRow(id="v", item_id=item.id, campaign_id=item.campaign_id, left=0, right=1, outcome="left", who="j",
                   kind="judge", at=START, shown="left_first", probability_left=0.6)  # fmt: skip
    sqlite_store.write(lambda session: session.add(vote))
    from_interactions(sqlite_store, tmp_path / "few", Options(sample=4, share_per_user=1))  # 2 + 1 + 1
    few = {row.id: row.columns for row in read_candidates(tmp_path / "few" / "candidates.jsonl")}
    assert "judge_uncertain" in few[made["choice"]]["strata"]
    assert few[made["choice"]]["inclusion_probability"] == 1
    assert "thumbs_down" in few[made["down"]]["strata"]
    rest = [columns["inclusion_probability"] for name, columns in few.items() if columns["strata"] == ["uniform"]]
    assert rest == pytest.approx([2 / 7] * len(rest))


def test_tool_calls_are_kept_and_a_text_completion_is_a_user_turn(sqlite_store: Store, tmp_path: Path) -> None:
    recording = Recording(sqlite_store)
    called: list[dict[str, Any]] = [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
    ]
    identifier = recording.reserve("Look", tools=[{"type": "function", "function": {"name": "look"}}])
    recording.recorder.update(identifier, "complete", [RecordedChoice("", "tool_calls", called)])
    recording.rate(identifier, thumbs="up")
    plain = recording.reserve("Once", endpoint="completions")
    recording.recorder.update(plain, "complete", [RecordedChoice(" upon", "stop")])
    recording.rate(plain, thumbs="down")
    from_interactions(sqlite_store, tmp_path / "out", Options(share_per_user=1))
    rows = load_records(str(tmp_path / "out" / "kto.jsonl"), kind=LabelledCompletion).records
    by_prompt = {row.prompt[0].content: row for row in rows}
    assert by_prompt["Look"].completion[0].tool_calls[0].name == "look"
    assert by_prompt["Look"].tools is not None
    assert by_prompt["Once"].completion[0].content == " upon"


def test_nothing_to_write_and_another_folder_are_refused(sqlite_store: Store, tmp_path: Path) -> None:
    recording = Recording(sqlite_store)
    with pytest.raises(
        DataError, match="from 0 interactions: no feedback; make a key that records: palate keys create"
    ):
        from_interactions(sqlite_store, tmp_path / "out")
    recording.complete(consent=False)
    with pytest.raises(DataError, match=r"from 1 interactions: 1 no_consent \(clients send x-palate-consent: true"):
        from_interactions(sqlite_store, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.json").write_text("{}")
    with pytest.raises(DataError, match="was not written by palate data from-interactions"):
        from_interactions(sqlite_store, tmp_path / "mine")
