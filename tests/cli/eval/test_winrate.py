"""`palate eval winrate`, end to end: tiny models, recorded answers, rule judges and votes of people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from palate.artifacts import read_jsonl
from palate.cli.main import main
from runs import run, write_rows
from tiny import save_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a run on pairs of which one prompt is asked again, and prompts."""
    folder = tmp_path_factory.mktemp("winrate")
    model = save_tiny(folder / "model", initializer_range=0.2)
    run(model, folder / "dpo", rows=8, max_steps=2)
    trained = read_jsonl(folder / "pairs8.jsonl")[0]["prompt"]
    asked = [{"prompt": "what is it"}, {"prompt": trained.upper()}, {"prompt": "why is that", "kind": "why"}]
    write_rows(folder / "prompts.jsonl", asked)
    return folder


def recorded(path: Path, answers: list[str], **more: Any) -> Path:
    """A candidates file with one answer to each of q1, q2, …"""
    rows = [
        {"id": f"p:{n}", "prompt": f"q{n}", "kind": "odd" if n % 2 else "even", "completions": [answer], **more}
        for n, answer in enumerate(answers, 1)
    ]
    return write_rows(path, rows)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Under length:longer A wins twice, ties twice (one of them equal answers) and loses once."""
    a = recorded(tmp_path / "a.jsonl", ["longest one", "long", "same", "four", "b"], identity="aa")
    b = recorded(tmp_path / "b.jsonl", ["short", "lo", "same", "five", "longer"], identity="bb")
    return str(a), str(b)


def measured(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    assert main(["eval", "winrate", *words, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def models(place: Path, out: Path, *more: str) -> list[str]:
    options = ["--prompts", str(place / "prompts.jsonl"), "--judge", "length:longer", "--max-new-tokens", "6"]
    return [str(place / "dpo"), str(place / "model"), *options, "--precision", "fp32", "--output", str(out), *more]


def test_two_models_and_nothing_is_done_twice(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = models(place, out, "--template", "chatml", "--by", "kind")
    first = measured(capsys, *words)
    assert first["prompts"] == 3
    assert first["judge_identity"] == {"name": "length:longer", "model": "", "prompt_hash": ""}
    assert len(first["prompts_hash"]) == 16
    assert first["a"]["identities"] != first["b"]["identities"]
    assert len(first["items"]) == 3
    assert [group["name"] for group in first["by_category"]] == ["(none)", "why"]
    assert sorted(path.name for path in out.glob("[!.]*")) == [
        "answers.a.jsonl", "answers.b.jsonl", "candidates.jsonl", "report.html", "votes.jsonl", "winrate.json",
    ]  # fmt: skip
    assert "<script" not in (out / "report.html").read_text()
    # The second prompt is one of the run's, in other letters.
    leaks = {Path(one["side"]).name: one for one in first["leaks"]}
    assert list(leaks["dpo"]["found"].items()) == [("prompts.jsonl:2", "same")]
    assert leaks["dpo"]["trained"] == 8
    assert "no run of palate" in leaks["model"]["reason"]
    assert first["win_rate_without_leaks"]["n"] == 2
    kept = {path.name: path.read_bytes() for path in out.glob("[!.]*")}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr("palate.evaluation.subject.Subject.answers", refuse)
    monkeypatch.setattr("palate.feedback.judges.scores.ScoreJudge.compare", refuse)
    assert measured(capsys, *words) == first
    assert {path.name: path.read_bytes() for path in out.glob("[!.]*")} == kept


def test_a_killed_run_continues(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = measured(capsys, *models(place, whole, "--template", "chatml"))
    measured(capsys, *models(place, killed, "--template", "chatml"))
    for name in ("winrate.json", "report.html", "candidates.jsonl"):
        (killed / name).unlink()
    answers, votes = (killed / "answers.b.jsonl").read_bytes(), (killed / "votes.jsonl").read_bytes()
    (killed / "answers.b.jsonl").write_bytes(answers[: answers.index(b"\n") + 9])  # the second row is cut
    (killed / "votes.jsonl").write_bytes(votes[: len(votes) // 2])
    found = measured(capsys, *models(place, killed, "--template", "chatml"))
    assert (killed / "answers.b.jsonl").read_bytes() == answers
    assert {**found, "folder": ""} == {**expected, "folder": ""}


def test_a_model_against_itself_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, str]
) -> None:
    a, _ = files
    model, copy = str(place / "model"), tmp_path / "copy"
    copy.symlink_to(place / "model")
    judged = ["--prompts", str(place / "prompts.jsonl"), "--judge", "length", "--output", str(tmp_path / "out")]
    options = [*judged, "--template", "chatml", "--precision", "fp32", "--max-new-tokens", "4"]
    assert main(["eval", "winrate", model, model, *judged]) == 2
    assert "against itself is no win rate" in capsys.readouterr().err
    assert main(["eval", "winrate", model, str(copy), *options]) == 2
    assert "have the same weights" in capsys.readouterr().err
    same = recorded(tmp_path / "c.jsonl", ["x", "y"], identity="aa")
    assert main(["eval", "winrate", a, str(same), "--judge", "length", "--output", str(tmp_path / "out2")]) == 2
    assert "have the same weights (aa)" in capsys.readouterr().err


def test_recorded_answers(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*files, "--judge", "length:longer", "--output", str(tmp_path / "out"), "--by", "kind"]
    found = measured(capsys, *words)
    # (1 + 1 + ½ + ½ + 0) / 5
    assert found["win_rate"]["estimate"] == pytest.approx(0.6)
    assert [found[name] for name in ("wins", "ties", "inconsistent", "losses")] == [2, 2, 0, 1]
    assert found["counts"] == {"judged": 4, "same_answer": 1, "unparsed": 0, "missing": 0}
    assert found["band"] == "60_to_80"
    assert [(one["name"], one["judged"], one["wins"]) for one in found["by_category"]] == [
        ("odd", 3, 1),
        ("even", 2, 1),
    ]
    assert [one["id"] for one in found["regressions"]] == ["p:5"]
    assert found["decoding"] is None
    # Both orders mirrored: swapping the files gives 1 − W.
    swapped = measured(capsys, files[1], files[0], *words[2:4], "--output", str(tmp_path / "swapped"))
    low, high = found["win_rate"]["low"], found["win_rate"]["high"]
    assert swapped["win_rate"]["estimate"] == pytest.approx(0.4)
    assert (swapped["win_rate"]["low"], swapped["win_rate"]["high"]) == pytest.approx((1 - high, 1 - low))


def test_the_table_fits_a_terminal(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.cli.columns.text_width", lambda: 80)
    words = [*files, "--judge", "length:longer", "--output", str(tmp_path / "out"), "--style", "--regressions"]
    assert main(["eval", "winrate", *words]) == 0
    said = capsys.readouterr()
    shown = [line for line in said.out.split("\n") if str(tmp_path) not in line and "a.jsonl" not in line]
    assert max(map(len, shown)) <= 80
    assert "60.0 % (" in said.out
    assert "length- and style-controlled" in said.out
    assert "p:5: score of A 0" in said.out
    assert "only 5 independent prompts" in " ".join(said.err.split())


def test_items_without_an_answer_are_listed_and_counted(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = recorded(tmp_path / "few.jsonl", ["x", "y", "z"])
    words = [files[0], str(few), "--judge", "length:longer", "--output", str(tmp_path / "out")]
    assert main(["eval", "winrate", *words, "--json"]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    told = " ".join(said.err.split())
    assert "2 prompts without an answer, left out of the win rate; add the answers" in told
    assert "The first: p:4: few.jsonl has no answer" in told
    assert (found["prompts"], found["counts"]["missing"], found["win_rate"]["n"]) == (5, 2, 3)
    assert [(one["id"], one["reason"]) for one in found["items"] if one["status"] == "missing"] == [
        ("p:4", "few.jsonl has no answer"),
        ("p:5", "few.jsonl has no answer"),
    ]
    # Three wins of five; all lost or all won without a verdict.
    assert found["bounds"] == [0.6, 1.0]
    assert any("2 of 5 items have no verdict" in line for line in found["findings"])
    # The prompts of the other file: two answers are to none of them.
    words = [str(few), files[0], "--judge", "length:longer", "--output", str(tmp_path / "fewer"), "--json"]
    assert main(["eval", "winrate", *words]) == 0
    said_then = " ".join(capsys.readouterr().err.split())
    assert "a.jsonl: 2 recorded answers are not used: to other prompts, or beyond the first" in said_then
    page = (tmp_path / "out" / "report.html").read_text()
    assert "few.jsonl has no answer" in page


def test_unparsed_verdicts_are_no_ties(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text(
        "def score(prompts, completions):\n    return [None if c == 'b' else len(c) for c in completions]\n"
    )
    found = measured(capsys, *files, "--judge", f"{rule}:score", "--output", str(tmp_path / "out"))
    assert found["counts"]["unparsed"] == 1
    assert found["unparsed"] == 1
    assert found["win_rate"]["estimate"] == pytest.approx(0.75)  # 1, 1, ½, ½
    assert found["bounds"] == pytest.approx([0.6, 0.8])


def test_a_sweep_has_a_row_for_each_temperature(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = models(place, out, "--template", "chatml", "--temperatures", "0,0.5,1")
    found = measured(capsys, *words)
    assert [one["temperature"] for one in found["points"]] == [0, 0.5, 1]
    assert sorted(path.name for path in out.glob("[!.]*")) == ["report.html", "sweep.json", "t0", "t0.5", "t1"]
    assert "<figcaption>Win rate by temperature" in (out / "report.html").read_text()
    for heat in (0, 0.5, 1):
        result = json.loads((out / f"t{heat:g}" / "winrate.json").read_text())
        assert result["decoding"]["temperature"] == heat
        assert {row["decoding"]["temperature"] for row in read_jsonl(out / f"t{heat:g}" / "answers.a.jsonl")} == {heat}
    monkeypatch.setattr("palate.cli.columns.text_width", lambda: 80)
    assert main(["eval", "winrate", *words]) == 0
    said = capsys.readouterr().out.split("\n")
    assert max(len(line) for line in said if not line.startswith("report")) <= 80
    assert [line.split()[0] for line in said[2:5]] == ["0", "0.5", "1"]  # a row each, below names and rule


def test_people_vote_on_the_answers(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, votes = tmp_path / "out", tmp_path / "votes.jsonl"
    words = [*files, "--judge", "people", "--output", str(out)]
    assert measured(capsys, *words) == {"candidates": [str(out / "candidates.jsonl")]}
    rows = read_jsonl(out / "candidates.jsonl")
    assert [one["text"] for one in rows[0]["completions"]] == ["longest one", "short"]

    def vote(item: str, outcome: str, who: str, **more: Any) -> dict[str, Any]:
        place = {"item": item, "left": 0, "right": 1, "outcome": outcome, "who": who, "kind": "person"}
        return {**place, "when": "2026-01-01T00:00:00Z", "shown": "left_first", "reason": "", **more}

    given = [
        vote("p:1", "left", "x"),
        vote("p:1", "left", "y", shown="right_first"),
        vote("p:2", "right", "x"),
        vote("p:2", "left", "y"),
        vote("p:2", "right", "z", shown="right_first"),
        vote("p:4", "both_bad", "x"),
        vote("p:5", "right", "x", saw_judge=True),
        vote("p:99", "left", "x"),
    ]
    write_rows(votes, given)
    found = measured(capsys, *words, "--votes", str(votes))
    # p:1 is won, p:2 lost by 2 to 1, p:3 has equal answers, p:4 is a tie, p:5 has no vote that counts.
    assert found["win_rate"]["estimate"] == pytest.approx((1 + 1 / 3 + 0.5 + 0.5) / 4)
    assert (found["wins"], found["losses"], found["judge_kind"]) == (1, 1, "person")
    assert found["counts"] == {"judged": 3, "same_answer": 1, "unparsed": 0, "missing": 1}
    assert found["left_out_votes"] == {"saw a judge's verdict": 1, "not on these answers": 1}
    assert found["position"] is None
    # Of 6 votes: A first wins, A second wins, A first loses, A first wins, A second loses, tie.
    assert (found["slots"]["first_won"], found["slots"]["second_won"]) == (3, 2)

    corrected = measured(capsys, *files, "--judge", "length:longer", "--output", str(out), "--votes", str(votes))
    assert corrected["people"]["labelled"] == 3
    assert corrected["people"]["unlabelled"] == 2
    assert corrected["win_rate"]["estimate"] == pytest.approx(0.6)
    assert corrected["people"]["ppi"]["interval"] is not None


def test_votes_of_a_campaign(files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, votes, store = tmp_path / "out", tmp_path / "votes.jsonl", f"sqlite:///{tmp_path / 'p.db'}"
    words = [*files, "--judge", "people", "--output", str(out)]
    assert main(["eval", "winrate", *words]) == 0
    assert "palate label serve --candidates" in capsys.readouterr().out
    one = {"item": "p:1", "left": 0, "right": 1, "outcome": "left", "who": "x", "kind": "person"}
    two = {**one, "item": "p:2"}
    shared = {"when": "2026-01-01T00:00:00Z", "shown": "left_first", "reason": "", "probability_left": None}
    write_rows(votes, [{**one, **shared}, {**two, **shared}])
    imported = ["--candidates", str(out / "candidates.jsonl"), "--votes", str(votes), "--campaign", "c"]
    assert main(["label", "import", *imported, "--store", store]) == 0
    capsys.readouterr()
    found = measured(capsys, *words, "--campaign", "c", "--store", store)
    assert found["wins"] == 2
    assert found["counts"]["missing"] == 2


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["A", "B", "--judge", "nobody"], 2, "is not a rule, a function or a folder"),
        (["A", "absent.jsonl", "--judge", "length"], 2, "no such file of recorded answers"),
        (["A", "openai:m", "--judge", "length"], 2, "write openai:MODEL@http"),
        (["model", "B", "--judge", "length"], 2, "name the prompts to answer with --prompts"),
        (["A", "B", "--judge", "length", "--temperatures", "hot"], 2, "write numbers with commas"),
        (["A", "B", "--judge", "length", "--temperatures", "0,0"], 2, "needs different numbers"),
        (["A", "B", "--judge", "length", "--temperatures", "0,1"], 2, "both sides are recorded"),
        (["A", "m", "--judge", "people", "--temperatures", "0,1"], 2, "people vote on the answers of one temperature"),
        (["A", "B", "--judge", "length", "--by", "topic"], 2, "--by topic: no prompt has this column; they have kind"),
        (["A", "B", "--judge", "length", "--cluster", "topic"], 2, "--cluster topic: no prompt has this column"),
        (["A", "B", "--judge", "people", "--votes", "absent"], 2, "no such file of votes"),
        (["A", "B", "--judge", "people", "--max-usd", "1"], 2, "asked without an API"),
        (["A", "OTHER", "--judge", "length"], 1, "has no answer to any prompt"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    told: str,
) -> None:
    other = write_rows(tmp_path / "other.jsonl", [{"prompt": "nothing of it", "completions": ["x"]}])
    names = {"A": files[0], "B": files[1], "OTHER": str(other)}
    given = [names.get(word, word) for word in words]
    assert main(["eval", "winrate", *given, "--output", str(tmp_path / "out")]) == code
    said = capsys.readouterr().err
    assert told in " ".join(said.split())
    assert "Traceback" not in said


def test_a_folder_of_something_else_and_changed_answers_are_refused(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["eval", "winrate", *files, "--judge", "length", "--output", str(out)]
    assert main(words) == 0
    recorded(Path(files[0]), ["changed", "long", "same", "four", "b"], identity="aa")
    assert main(words) == 1
    assert "p:1 has other answers there" in " ".join(capsys.readouterr().err.split())
    (out / "notes.txt").write_text("mine")
    assert main(words) == 1
    assert "holds files that are no win rate (notes.txt)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "option",
    [
        ["--top-p", "0.5"],
        ["--max-new-tokens", "7"],
        ["--seed", "1"],
        ["--template", "chatml"],
        ["--precision", "fp32"],
        ["--temperatures", "1"],
    ],
)
def test_options_of_answers_are_refused_where_both_sides_are_recorded(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    words = ["eval", "winrate", *files, "--judge", "length", "--output", str(tmp_path / "out"), *option]
    assert main(words) == 2
    assert f"{option[0]}: both sides are recorded, so no model answers" in " ".join(capsys.readouterr().err.split())


def test_top_p_needs_a_temperature(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "winrate", *models(place, tmp_path / "out", "--top-p", "0.5")]) == 2
    assert "--top-p is for sampled answers, and these are greedy" in " ".join(capsys.readouterr().err.split())
