"""`palate data augment --delta` and `--critique` with an engine over HTTP and with a model in this process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

import palate
from engines import BAD, GOOD, Handler, Server, serving, settled
from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.data.augment.principles import BUILTIN
from runs import write_rows


@pytest.fixture
def engine() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    return str(write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"question {n}"} for n in range(12)]))


def augment(*words: str) -> int:
    return main(["data", "augment", *words])


def test_critique_with_an_engine_is_resumed_without_a_request(
    engine: Server, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [prompts, "--critique", "m", "--base-url", engine.url, "-o", str(out), "--json"]
    assert augment(*words) == 0
    done = json.loads(capsys.readouterr().out)
    # The engine writes GOOD or BAD by the seed, so some revisions are the first answer or the critique again.
    assert done["rows"] + sum(done["not_made"].values()) == 12
    assert set(done["not_made"]) == {"unchanged_revision", "repeated_critique"}
    assert done["rows"] > 0
    assert done["asked"] == len(engine.chats) == 36
    rows = read_jsonl(out / "augmented.jsonl")
    assert {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows} <= {(GOOD, BAD), (BAD, GOOD)}
    assert len(palate.load_preferences(str(out)).records) == done["rows"]
    critiques = [chat["messages"] for chat in engine.chats if len(chat["messages"]) == 3]
    assert len(critiques) == 12
    assert all("NONE" in messages[-1]["content"] for messages in critiques)
    assert augment(*words) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["asked"], again["kept"], len(engine.chats)) == (0, 36, 36)
    words[1:5] = ["--critique", f"openai:m@{engine.url}"]  # as --judge names an API model
    assert augment(*words) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 36
    assert augment(*[word.replace("openai:m@", "openai:@") for word in words]) == 2
    assert "write openai:MODEL@http" in capsys.readouterr().err


def test_after_a_kill_only_requests_in_flight_are_sent_again(
    engine: Server, prompts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = Handler.do_POST

    def slow(handler: Handler) -> None:
        time.sleep(0.05)
        answer(handler)

    monkeypatch.setattr(Handler, "do_POST", slow)
    words = [prompts, "--critique", "m", "--base-url", engine.url, "-o", str(tmp_path / "out"), "--json"]
    process = subprocess.Popen([sys.executable, "-m", "palate", "data", "augment", *words], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while len(engine.chats) < 15 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = settled(lambda: len(engine.chats))  # the engine ends what it was asked
    assert 15 <= before < 36
    assert augment(*words) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["asked"] + done["kept"] == 36
    assert done["kept"] >= before - 8  # eight requests at once
    assert len(engine.chats) == before + done["asked"]


def test_delta_of_two_engines_and_a_score(
    engine: Server, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as other:
        names = (f"big@{engine.url}", f"small@{other.url}")
        out = str(tmp_path / "out")
        # Both engines see the same seeds, so both give the same answer to every prompt.
        assert augment(prompts, "--delta", *names, "-o", out) == 1
        assert "no pair was made of 12 prompts: 12 equal" in capsys.readouterr().err
        assert {chat["model"] for chat in engine.chats} == {"big"}
        assert {chat["model"] for chat in other.chats} == {"small"}
    assert not [row for row in read_jsonl(tmp_path / "out" / "answers.jsonl")[1:] if "http" in row["model"]]


def test_delta_prints_the_quality_of_both_sides(
    httpserver: HTTPServer, prompts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text, reason in (("strong", "the whole answer", "stop"), ("weak", "no", "length")):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        httpserver.expect_request(f"/{name}/v1/chat/completions").respond_with_json({"choices": [choice]})
    names = [f"{name}@{httpserver.url_for(f'/{name}/v1')}" for name in ("strong", "weak")]
    assert augment(prompts, "--delta", *names, "-o", str(tmp_path / "out"), "--judge", "length:longer") == 0
    printed = capsys.readouterr().out
    assert "12  pairs by delta" in printed
    assert "score by length:longer" in printed
    assert "chosen has the higher score in 100.0% of the pairs" in printed
    (truncated,) = (line for line in printed.splitlines() if line.strip().startswith("truncated"))
    assert truncated.split()[1:] == ["0.0%", "100.0%"]
    row = read_jsonl(tmp_path / "out" / "augmented.jsonl")[0]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("the whole answer", "no")
    assert row["made"]["decoding"] == {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 256}


def test_gaps_of_a_report_choose_prompts_and_principles(
    engine: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {
        "clusters": [{"words": ["tax", "form"], "prompts": 1, "share": 0.01}],
        "improvements": {"accuracy": 1, "helpfulness": 50, "safety": 49},
    }
    (tmp_path / "inspect.json").write_text(json.dumps(report))
    asked = [{"prompt": f"Which tax form is for case {n}?"} for n in range(12)] + [{"prompt": "Which form is best?"}]
    path = write_rows(tmp_path / "p.jsonl", asked)
    words = [str(path), "--critique", "m", "--base-url", engine.url, "--gaps", str(tmp_path / "inspect.json")]
    assert augment(*words, "-o", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "1  prompts without a pair: not_in_gap" in printed
    assert "aimed at: tax, form; accuracy" in printed
    principles = {row["made"]["principle"] for row in read_jsonl(tmp_path / "out" / "augmented.jsonl")}
    assert principles <= {principle.text for principle in BUILTIN if principle.kind == "accuracy"}
    report["clusters"] = []
    (tmp_path / "inspect.json").write_text(json.dumps(report))
    delta = [str(path), "--delta", "a", "b", "--base-url", engine.url, "--gaps", str(tmp_path / "inspect.json")]
    assert augment(*delta, "-o", str(tmp_path / "out2")) == 2
    assert "names no rare topic, only accuracy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--delta", "a", "a"], "two models with different names"),
        (["--delta", "a", "b", "--model", "c"], "name their models"),
        (["--delta", "a", "b", "--critique", "c"], "say what to make"),
        (["--critique", "a", "--principles", "no.txt"], "cannot be read"),
        (["--critique", "a", "--base-url", "ftp://x"], "base URL must be"),
        (["--critique", "a", "--judge", "openai:x", "--base-url", "http://127.0.0.1:9/v1"], "compares answers"),
        (["--add", "dropped_end=1", "--gaps", "x.json"], "--gaps is for"),
    ],
)
def test_a_mistake_is_one_line(
    prompts: str, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert augment(prompts, *words, "-o", str(tmp_path / "out")) != 0
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
