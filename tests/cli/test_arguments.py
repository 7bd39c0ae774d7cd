"""The command line before the verbs read it: old names of options, paths that no shell has expanded."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.artifacts import read_jsonl
from palate.cli.arguments import FORMER_OPTIONS, read_words
from palate.cli.main import main
from palate.errors import UsageError
from runs import write_rows

ROWS = [{"prompt": f"question {n}", "chosen": f"yes, {n} of them", "rejected": "no"} for n in range(3)]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (
            ["data", "convert", "~/a.jsonl", "--output=~/b.jsonl"],
            ["data", "convert", "HOME/a.jsonl", "--output=HOME/b.jsonl"],
        ),
        (["report", "~"], ["report", "HOME"]),
        (["data", "mix", "a", "--cap", "~/a.jsonl=5"], ["data", "mix", "a", "--cap", "HOME/a.jsonl=5"]),
        (["train", "~/a.yaml", "--set", "output_dir=~/x"], ["train", "HOME/a.yaml", "--set", "output_dir=~/x"]),
        (["judge", "a~b", "--judge", "lexicon:~good"], ["judge", "a~b", "--judge", "lexicon:~good"]),
        (["eval", "accuracy", "~x~"], ["eval", "accuracy", "~x~"]),
        (["data", "inspect", "--", "~/a"], ["data", "inspect", "--", "~/a"]),
    ],
)
def test_a_home_folder_is_expanded(home: Path, words: list[str], read: list[str]) -> None:
    assert read_words(words) == ([word.replace("HOME", str(home)) for word in read], [])


def test_a_user_who_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match=r"~nobody-of-that-name/x: there is no home folder ~nobody-of-that-name"):
        read_words(["report", "~nobody-of-that-name/x"])


@pytest.mark.parametrize(
    ("verb", "former", "now"), [(verb, *names) for verb, all_of in FORMER_OPTIONS.items() for names in all_of.items()]
)
@pytest.mark.parametrize("form", ["{} value", "{}=value"])
def test_an_old_name_of_an_option_is_read_and_said(verb: tuple[str, ...], former: str, now: str, form: str) -> None:
    words, notices = read_words([*verb, *form.format(former).split()])
    assert words == [*verb, *form.format(now).split()]
    assert notices == [f"{former} is called {now} now; the old name is refused from palate 0.3 on"]


def test_an_old_name_of_one_verb_is_none_of_another() -> None:
    words = ["data", "convert", "--votes", "x", "--samples", "3"]
    assert read_words(words) == (words, [])


def test_out_still_names_the_output_and_is_said_once(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(home / "pairs.jsonl", ROWS)
    assert main(["data", "convert", "~/pairs.jsonl", "--out=~/trl.jsonl", "--to", "trl"]) == 0
    assert (
        capsys.readouterr().err
        == "palate: note: --out is called --output now; the old name is refused from palate 0.3 on\n"
    )
    assert len(read_jsonl(home / "trl.jsonl")) == 3
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "verb",
    [
        *(["data", name] for name in ("inspect", "convert", "curate", "split", "mix", "augment", "margins")),
        *(["generate"], ["judge"], ["compare"], ["report"], ["demo"], ["eval", "frontier"], ["model", "convert"]),
    ],
    ids=" ".join,
)
def test_every_verb_that_writes_takes_output(
    verb: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*verb, "--help"]) == 0
    page = capsys.readouterr().out
    assert "--output" in page
    assert "-o" in page
    assert "--out " not in page
