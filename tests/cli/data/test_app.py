"""`palate data` parses, calls and prints; a user's mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from palate.cli.data import app as data
from palate.cli.main import app
from palate.errors import ConfigError, DataError, MissingInputError, PalateError, UsageError
from palate.progress import Pass

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
    done = RUN.invoke(app, ["data", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_inspect(pairs: str, tmp_path: Path) -> None:
    text = run("inspect", pairs, "--output", str(tmp_path / "page.html"))
    assert "prompt-pairs (fits 100%), 31 rows" in text
    assert "empty_rejected" in text
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    found = json.loads(run("inspect", pairs, "--json"))
    assert (found["rows"], found["records"]) == (31, 30)


def test_a_long_read_says_how_far_it_is(pairs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[str, float, float | None]] = []
    monkeypatch.setattr(Pass, "reach", lambda one, done: seen.append((one.label, done, one.total)))
    run("curate", pairs, "--output", str(tmp_path / "o"), "--preset", "strong")
    size = Path(pairs).stat().st_size / 1e6
    assert ("reading pairs.jsonl, MB", pytest.approx(size), pytest.approx(size)) in seen


def test_convert(pairs: str, tmp_path: Path) -> None:
    text = run("convert", pairs, "--output", str(tmp_path / "o.parquet"), "--to", "trl")
    assert "30 pairs as trl" in text
    assert "pairs.jsonl:31: empty_rejected" in text
    listed = json.loads((tmp_path / "o.parquet.data.json").read_text())["left_out"]
    assert listed == [{"id": "pairs.jsonl:31", "reason": "empty_rejected", "detail": "rejected is empty"}]
    done = json.loads(run("convert", pairs, "--output", str(tmp_path / "k.jsonl"), "--to", "kto", "--json"))
    assert done["written"] == 60
    assert done["left_out"] == [{"id": "pairs.jsonl:31", "reason": "empty_rejected", "detail": "rejected is empty"}]


@pytest.fixture
def votes(tmp_path: Path) -> str:
    path = tmp_path / "votes.jsonl"
    rows = [
        {"prompt": row["prompt"], "response_a": row["chosen"], "response_b": row["rejected"], "label": n % 2}
        for n, row in enumerate(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_labels_are_said_and_can_be_named(votes: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"label has the values 0 \(15\), 1 \(15\); which answer each value means is not certain"
    ):
        run("inspect", votes)
    named = ("--label", "0=response_a", "--label", "1=response_b")
    line = "label: 0 → response_a (15), 1 → response_b (15)"
    assert line in run("inspect", votes, *named, "--html", str(tmp_path / "page.html"))
    assert line in (tmp_path / "page.html").read_text()
    done = RUN.invoke(app, ["data", "convert", votes, *named, "-o", str(tmp_path / "o.jsonl")])
    assert line in done.stderr
    assert json.loads((tmp_path / "o.jsonl.data.json").read_text())["sources"][0]["labels"] == line
    chosen = [json.loads(row)["chosen"][0]["content"] for row in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert chosen == [ROWS[n]["chosen" if n % 2 == 0 else "rejected"] for n in range(30)]
    for verb, *more in (("curate", "--preset", "clean"), ("split",), ("mix",), ("augment", "--add", "dropped_end=2")):
        run(verb, votes, *named, "-o", str(tmp_path / verb), *more)


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
        (["inspect", "none.jsonl"], MissingInputError, "none.jsonl' is not there"),
        (
            ["inspect", "PAIRS", "--column", "prompt"],
            UsageError,
            "--column prompt: write NAME=COLUMN, as prompt=question",
        ),
        (["inspect", "PAIRS", "--label", "0"], UsageError, "--label 0: write VALUE=MEANING, as 0=response_1"),
        (["inspect", "PAIRS", "--label", "0=first"], DataError, "labels is set, but no label column is read there"),
        (["convert", "PAIRS", "-o", "OUT", "--to", "xml"], UsageError, "palate does not write 'xml'"),
        (["curate", "PAIRS"], UsageError, "name a dataset and --output"),
        (["curate", "PAIRS", "-o", "OUT"], ConfigError, "no rules; name a preset"),
        (["split", "PAIRS", "-o", "OUT", "--part", "test"], UsageError, "--part test: write NAME=SIZE"),
        (["mix", "PAIRS", "-o", "OUT", "--weight", "2"], UsageError, "--weight 2: write SOURCE=NUMBER"),
        (["mix", "PAIRS", "-o", "OUT", "--weight", "a=1", "--temperature", "2"], UsageError, "keep one of them"),
        (["convert", "PAIRS", "-o", "PAIRS"], UsageError, "is an input file"),
        (["inspect", "PAIRS", "--output", "PAIRS"], UsageError, "is an input file"),
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
    command = typer.main.get_command(data.app)
    assert sorted(command.commands) == [  # type: ignore[attr-defined]
        "augment", "convert", "curate", "from-interactions", "inspect", "join", "margins", "mix", "split"
    ]  # fmt: skip
    for verb in command.commands.values():  # type: ignore[attr-defined]
        assert verb.help


@pytest.mark.parametrize("verb", ["split", "mix", "convert", "curate"])
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.jsonl", "", "there is no row in it"),
        ("empty.json", "[]", "there is no row in it"),
        ("header.csv", "prompt,chosen,rejected\n", "there is no row in it"),
        ("notes.txt", "hello", "unknown type of file"),
        ("broken.jsonl", "{oops\n", "line 1: broken JSON"),
        ("numbers.jsonl", "5\n", "none of its first rows is an object"),
        ("cut.parquet", "PAR1", "not a complete Parquet file"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, verb: str, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    target = tmp_path / ("o.jsonl" if verb == "convert" else "o")
    given = [verb, str(tmp_path / name), "-o", str(target), *(["--preset", "clean"] if verb == "curate" else [])]
    with pytest.raises(DataError) as raised:
        run(*given)
    assert name in str(raised.value)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not target.exists()


def test_one_row_is_enough_for_all_verbs_but_split(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n")
    assert "1 pair as palate" in run("convert", str(path), "-o", str(tmp_path / "c.jsonl"))
    assert "1  rows in" in run("mix", str(path), "-o", str(tmp_path / "m"))
    assert "1 row kept" in run("curate", str(path), "-o", str(tmp_path / "k"), "--preset", "clean")
    with pytest.raises(DataError, match=r"one\.jsonl: validation 0\.05 of 1 row in 1 cluster .* split more rows"):
        run("split", str(path), "-o", str(tmp_path / "s"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.parquet"])
def test_answers_that_begin_like_formulas_or_lists_come_back_as_they_are(tmp_path: Path, name: str) -> None:
    answers = ["- one\n- two", "-5", "--", "=SUM(A1)", "+1 for that", "@home", "'quoted'", "\t- tab", "- a | b", "a\rb"]
    rows = [{"prompt": f"{answer}?", "chosen": answer, "rejected": "no"} for answer in answers]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run("convert", str(tmp_path / "a.jsonl"), "-o", str(tmp_path / name), "--to", "trl")
    run("convert", str(tmp_path / name), "-o", str(tmp_path / "back.jsonl"))
    back = [json.loads(line) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert [row["chosen"][-1]["content"] for row in back] == answers
    assert [row["prompt"][-1]["content"] for row in back] == [f"{answer}?" for answer in answers]


def test_a_csv_by_hand_keeps_its_bullets(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('prompt,chosen,rejected\nq?,"- one\n- two",-no\n=1+1?,+2,@3\n')
    run("convert", str(path), "-o", str(tmp_path / "b.jsonl"))
    back = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert [[row[side][-1]["content"] for side in ("prompt", "chosen", "rejected")] for row in back] == [
        ["q?", "- one\n- two", "-no"],
        ["=1+1?", "+2", "@3"],
    ]
