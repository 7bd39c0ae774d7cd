"""`palate eval rank`, from folders of win rates, from files and from a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palate.cli.main import main
from runs import write_rows


def contest(folder: Path, a: str, b: str, outcomes: str) -> Path:
    """A folder as `palate eval winrate` leaves it: candidates of two models and a judge's votes in both orders."""
    folder.mkdir()
    rows = [
        {
            "id": f"p{n}",
            "prompt": f"q{n}",
            "completions": [{"text": f"{a} {n}", "model": a}, {"text": f"{b} says {n}", "model": b}],
        }
        for n in range(len(outcomes))
    ]
    votes = [
        {
            "item": f"p{n}", "left": 0, "right": 1, "outcome": {"l": "left", "r": "right", "t": "tie"}[letter],
            "who": "judge", "when": "2026-01-01T00:00:00Z", "shown": shown,
        }
        for n, letter in enumerate(outcomes)
        for shown in ("left_first", "right_first")
    ]  # fmt: skip
    write_rows(folder / "candidates.jsonl", rows)
    write_rows(folder / "votes.jsonl", votes)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [
        str(contest(tmp_path / "one", "v2", "v1", "llrlltlrll")),
        str(contest(tmp_path / "two", "v3", "v2", "lrlrltlrlr")),
    ]


def test_folders_of_win_rates(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "rank", *folders, "--anchor", "v1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (group,) = found["groups"]
    assert (found["votes"], group["votes"], group["prompts"]) == (40, 40, 10)
    ratings = {one["model"]: one["rating"] for one in group["result"]["ratings"]}
    assert list(ratings) == ["v3", "v2", "v1"]
    assert ratings["v1"]["estimate"] == pytest.approx(1000)
    # 7.5 of 10 against v1, and the prompts are the same in both orders: 400·log10(3)
    assert ratings["v2"]["estimate"] == pytest.approx(1000 + 190.85, abs=0.5)
    assert group["result"]["order"]["estimate"] == pytest.approx(0, abs=1e-6)


def test_a_table_for_people(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "rank", *folders, "--length-control"]) == 0
    out = capsys.readouterr().out
    assert "rank  model  rating" in out
    assert "40 votes on 10 prompts; v2 has 1000 points" in out
    assert "first slot gains +0.00" in out
    assert "length gains" in out


def test_groups_and_kinds_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = contest(tmp_path / "one", "a", "b", "lrtl")
    two = contest(tmp_path / "two", "x", "y", "llll")
    votes = [json.loads(line) for line in (one / "votes.jsonl").read_text().splitlines()]
    write_rows(one / "votes.jsonl", [*votes, {**votes[0], "kind": "person"}, {**votes[1], "saw_judge": True}])
    assert main(["eval", "rank", str(one / "votes.jsonl"), str(two)]) == 0
    seen = capsys.readouterr()
    assert "won all of 8 comparisons with other models" in seen.out
    assert "votes left out: 1: saw a judge's verdict" in seen.err
    assert "votes of several kinds are rated together (16 judge, 1 person)" in seen.err
    assert "ratings of different groups cannot be compared" in seen.err


def test_a_store(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, folder = f"sqlite:///{tmp_path / 'palate.db'}", Path(folders[0])
    words = ["--candidates", str(folder / "candidates.jsonl"), "--votes", str(folder / "votes.jsonl")]
    assert main(["label", "import", *words, "--store", store]) == 0
    capsys.readouterr()
    assert main(["eval", "rank", "--store", store, "--json"]) == 0
    from_store = json.loads(capsys.readouterr().out)
    assert main(["eval", "rank", folders[0], "--json"]) == 0
    assert from_store == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name files of votes, or --store and --campaign"),
        (["absent.jsonl"], "absent.jsonl: there is no such file of votes"),
        (["ONE/votes.jsonl", "--candidates", "absent.jsonl"], "no such file of candidates; name it with --candidates"),
        (["ONE", "--anchor", "v9"], "--anchor v9: the votes are on v1, v2"),
        (["ONE", "--kind", "person"], "no vote compares two models (not of a person 20)"),
    ],
)
def test_what_is_wrong_is_one_line(
    folders: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "rank", *(word.replace("ONE", folders[0]) for word in words)]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())
