"""`palate data` parses, calls and prints; a user's mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from palate.cli.data import app
from palate.errors import ConfigError, DataError, PalateError, UsageError

RUN = CliRunner()
ROWS = [
    {
        "prompt": f"How do I cook dish number {n}?",
        "chosen": f"Wash the vegetables, put {n + 3} of them into boiling water, add salt and wait for twenty minutes.",
        "rejected": f"You could ask somebody else about dish {n}, because that is not so very easy, is it?",
    }
    for n in range(30)
]


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, {**ROWS[0], "rejected": ""}]))
    return str(path)


def run(*words: str) -> str:
    """What the command prints; its errors are raised."""
    done = RUN.invoke(app, words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_inspect(pairs: str, tmp_path: Path) -> None:
    text = run("inspect", pairs, "--output", str(tmp_path / "page.html"))
    assert "prompt-pairs (100% sure), 31 rows" in text
    assert "empty_rejected" in text
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    found = json.loads(run("inspect", pairs, "--json"))
    assert (found["rows"], found["records"]) == (31, 30)


def test_a_long_run_says_how_far_it_is(
    pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("palate.cli.data._SAID_EVERY", 20)
    done = RUN.invoke(app, ["inspect", pairs, "--workers", "1", "--json"])
    assert "30 rows looked at" in done.stderr + capfd.readouterr().err
    assert json.loads(done.stdout)["rows"] == 31
    done = RUN.invoke(app, ["curate", pairs, "-o", str(tmp_path / "o"), "--preset", "strong"])
    assert "30 rows measured" in done.stderr + capfd.readouterr().err


def test_convert(pairs: str, tmp_path: Path) -> None:
    text = run("convert", pairs, "--output", str(tmp_path / "o.parquet"), "--to", "trl")
    assert "30 pairs as trl" in text
    assert "pairs.jsonl:31: empty_rejected" in text
    listed = json.loads((tmp_path / "o.parquet.data.json").read_text())["left_out"]
    assert listed == [{"id": "pairs.jsonl:31", "reason": "empty_rejected", "detail": "rejected is empty"}]
    done = json.loads(run("convert", pairs, "--output", str(tmp_path / "k.jsonl"), "--to", "kto", "--json"))
    assert done["written"] == 60
    assert done["left_out"] == [{"id": "pairs.jsonl:31", "reason": "empty_rejected", "detail": "rejected is empty"}]


def test_curate(pairs: str, tmp_path: Path) -> None:
    text = run("curate", pairs, "--output", str(tmp_path / "out"), "--preset", "strong")
    assert "more_nouns_and_verbs" in text
    assert "30 rows kept" in text
    (tmp_path / "rules.yaml").write_text("rules: [{sample: {rows: 5}}]\n")
    done = json.loads(
        run("curate", pairs, "-o", str(tmp_path / "out"), "--rules", str(tmp_path / "rules.yaml"), "--json")
    )
    assert done["kept"] == 5
    assert "characters: 60" in run("curate", "--list-rules")


def test_mix(pairs: str, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text("".join(json.dumps({**row, "prompt": "other"}) + "\n" for row in ROWS[:6]))
    words = ["mix", pairs, str(tmp_path / "other.jsonl"), "-o", str(tmp_path / "m")]
    text = run(*words, "--weight", "pairs.jsonl=2", "--weight", "other.jsonl=1")
    assert "12   66.7%  pairs (18 not drawn, 1 unusable, see left_out.jsonl)" in text
    assert "6   33.3%  other\n" in text
    done = json.loads(run(*words, "--cap", "pairs.jsonl=3", "--as", "parquet", "--json"))
    assert done["taken"] == {"pairs": 3, "other": 6}
    assert (tmp_path / "m" / "mixed.parquet").is_file()


def test_split(pairs: str, tmp_path: Path) -> None:
    run("split", pairs, "--output", str(tmp_path / "s"), "--part", "test=5", "--threshold", "1")
    assert len((tmp_path / "s" / "test.jsonl").read_text().splitlines()) == 5
    assert len((tmp_path / "s" / "train.jsonl").read_text().splitlines()) == 25
    assert [row["id"] for row in json.loads((tmp_path / "s" / "data.json").read_text())["left_out"]] == [
        "pairs.jsonl:31"
    ]


@pytest.mark.parametrize(
    ("words", "counted"),
    [
        (["split", "--part", "held=2", "--threshold", "1"], "counts"),
        (["mix"], "taken"),
        (["augment", "--add", "repetition=1"], "read"),
    ],
)
def test_one_split_of_a_folder(words: list[str], counted: str, tmp_path: Path) -> None:
    def total(count: Any) -> int:
        return sum(map(total, count.values())) if isinstance(count, dict) else count

    (tmp_path / "in").mkdir()
    for name, rows in (("train", ROWS), ("test", ROWS[:9])):
        (tmp_path / "in" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = ["-o", str(tmp_path / "out"), "--json"]
    for split, count in ([], 30), (["--split", "test"], 9):
        done = json.loads(run(words[0], str(tmp_path / "in"), *words[1:], *split, *out))
        assert total(done[counted]) == count


def test_augment(pairs: str, tmp_path: Path) -> None:
    text = run(
        "augment", pairs, "--output", str(tmp_path / "a"), "--add", "dropped_end=0.1", "--add", "swapped_numbers=4"
    )
    assert "30  rows as they were" in text
    assert "3  dropped_end" in text
    done = json.loads(run("augment", pairs, "-o", str(tmp_path / "a"), "--aim", "accuracy", "--share", "0.2", "--json"))
    assert done["made"] == {"swapped_numbers": 3}


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["inspect", "none.jsonl"], DataError, "none.jsonl' is not there"),
        (["inspect", "PAIRS", "--prefer", "nicer"], UsageError, "--prefer nicer: is not one of"),
        (["inspect", "PAIRS", "--column", "prompt"], UsageError, "--column prompt: write NAME=COLUMN"),
        (["convert", "PAIRS", "-o", "OUT", "--to", "xml"], UsageError, "palate does not write 'xml'"),
        (["curate", "PAIRS"], UsageError, "name a dataset and --output"),
        (["curate", "PAIRS", "-o", "OUT"], ConfigError, "no rules; name a preset"),
        (["split", "PAIRS", "-o", "OUT", "--part", "test"], UsageError, "--part test: write NAME=SIZE"),
        (["mix", "PAIRS", "-o", "OUT", "--weight", "2"], UsageError, "--weight 2: write SOURCE=NUMBER"),
        (["mix", "PAIRS", "-o", "OUT", "--weight", "a=1", "--temperature", "2"], UsageError, "keep one of them"),
        (["convert", "PAIRS", "-o", "PAIRS"], UsageError, "is what is read"),
        (["inspect", "PAIRS", "--output", "PAIRS"], UsageError, "is what is read"),
        (["mix", "PAIRS", "-o", "OUT", "--cap", "pairs=nan"], UsageError, "--cap pairs=nan: write SOURCE=NUMBER"),
        (["mix", "PAIRS", "-o", "OUT", "--cap", "pairs=-5"], UsageError, "--cap pairs=-5: give a whole number"),
        (["mix", "PAIRS", "-o", "OUT", "--cap", "pairs=0"], DataError, "the mixture would be empty: empty_rejected 1"),
        (["mix", "palate-demo", "-o", "OUT", "--cap", "palate-demo=0"], DataError, "the caps leave no row"),
        (["augment", "PAIRS", "-o", "OUT", "--add", "repetition=inf"], UsageError, "give a share up to 1 or a number"),
        (["augment", "PAIRS", "-o", "OUT"], UsageError, "say what to make"),
        (["augment", "PAIRS", "-o", "OUT", "--add", "dropped_end"], UsageError, "write KIND=SIZE"),
        (["augment", "PAIRS", "-o", "OUT", "--add", "sampled=3"], UsageError, "sampled needs a model"),
    ],
)
def test_a_mistake_is_one_line(
    pairs: str, tmp_path: Path, words: list[str], error: type[PalateError], says: str
) -> None:
    named = {"PAIRS": pairs, "OUT": str(tmp_path / "out")}
    with pytest.raises(error, match=says) as caught:
        run(*(named.get(word, word) for word in words))
    assert "\n" not in str(caught.value)


def test_every_verb_has_help() -> None:
    command = typer.main.get_command(app)
    assert sorted(command.commands) == [  # type: ignore[attr-defined]
        "augment", "convert", "curate", "inspect", "margins", "mix", "split"
    ]  # fmt: skip
    for verb in command.commands.values():  # type: ignore[attr-defined]
        assert verb.help
