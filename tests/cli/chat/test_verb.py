"""`palate chat` as a user has it: at a terminal of 80 columns with Ctrl-C, and in a pipe."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from engines import BAD, GOOD, Server, serving
from palate.artifacts import read_jsonl
from palate.cli.main import main
from palate.evaluation.subject import Subject, model_spec
from palate.models.generation.decoding import Decoding
from palate.models.precision import FP32
from palate.records import Message
from runs import command
from tiny import save_tiny


class Terminal:
    """The command at a terminal of 80 columns and 24 lines."""

    def __init__(self, *words: str | Path) -> None:
        self.main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        how = command("chat", *words)
        how["env"] = {**how["env"], "TERM": "xterm-256color"}
        streams = {"stdin": side, "stdout": side, "stderr": side, "text": False}
        self.process = subprocess.Popen(**{**how, **streams}, preexec_fn=lambda: os.login_tty(side))
        os.close(side)
        self.seen = ""

    def wait(self, pattern: str, seconds: float = 240) -> str:
        """What is shown up to a pattern, from where the last call ended."""
        end = time.monotonic() + seconds
        while (found := re.search(pattern, self.seen)) is None:
            left = end - time.monotonic()
            ready, _, _ = select.select([self.main], [], [], max(0.0, left))
            assert ready, f"{pattern!r} did not come: {self.seen!r}"
            self.seen += os.read(self.main, 4096).decode("utf-8", "replace")
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())


@contextmanager
def terminal(*words: str | Path) -> Iterator[Terminal]:
    shown = Terminal(*words)
    try:
        yield shown
        assert shown.process.wait(120) == 0
    finally:
        if shown.process.poll() is None:
            shown.process.kill()
            shown.process.wait()
        os.close(shown.main)


@pytest.fixture
def engine() -> Iterator[Server]:
    with serving() as server:
        yield server


def test_ctrl_c_stops_the_answer_and_then_the_chat(engine: Server) -> None:
    engine.words, engine.pause = 2000, 0.02
    with terminal("m", "--base-url", engine.url) as shown:
        shown.wait(r"\n> ")
        shown.type("/help\n")
        text = shown.wait("show this list")
        assert all(len(line) <= 80 for line in re.sub(r"\x1b\[[\d;?]*[a-z]", "", text).splitlines())
        shown.type("hello\n")
        shown.wait(" on on")
        shown.type("\x03")
        shown.wait("stopped")
        shown.wait(r"\n> ")
        engine.words = 0
        shown.type("and now?\n")
        shown.wait("these|am not")
        shown.wait(r"\n> ")
        while shown.process.poll() is None:  # input() overlooks a signal between its prompt and its wait for keys
            shown.type("\x03")
            with suppress(subprocess.TimeoutExpired):
                shown.process.wait(5)
    turns = engine.chats[1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert re.match(f"({GOOD}|{BAD}) on on", turns[1]["content"])


def test_a_key_decides_between_two_answers(engine: Server, tmp_path: Path) -> None:
    saved = tmp_path / "pairs.jsonl"
    with terminal("m", "--against", f"openai:n@{engine.url}", "--base-url", engine.url, "--save", saved) as shown:
        shown.wait(r"\n> ")
        for number in range(20):  # the engine draws one of two texts by the seed
            shown.type(f"question {number}?\n")
            if "better" in shown.wait(r"better answer.*\? |a tie"):
                shown.type("b")
                shown.wait(r"b\r?\n")
                shown.wait(r"\n> ")
                assert len(read_jsonl(saved)) == 1, "the pair is in the file at once"
                break
        shown.type("/exit\n")
        shown.wait("preferred: [mn] [01], [mn] [01];")
    (row,) = read_jsonl(saved)
    assert {row["chosen"], row["rejected"]} == {GOOD, BAD}
    assert row["conversations"][-1]["value"] == f"question {number}?"


def test_a_question_from_a_pipe(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model", initializer_range=0.2)
    words = ["chat", str(model), "--max-new-tokens", "5", "--temperature", "0", "--precision", "fp32"]
    done = subprocess.run(**command(*words), input="hi\nthere\n", timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (answer,) = Subject(model_spec(str(model)), FP32, torch.device("cpu")).answers(
        [(Message("user", "hi\nthere"),)], Decoding(5)
    )
    assert done.stdout == answer.text + "\n"
    assert "cut at 5 tokens" in done.stderr


@pytest.mark.parametrize(
    ("words", "given", "message"),
    [
        (["m", "--save", "x.jsonl"], "hi", "--save keeps the better one of two answers; name the second model"),
        (["m", "--against", "n"], "hi", "standard input must be a terminal"),
        (["m"], " \n", "has no question; write e.g. echo hi | palate chat MODEL"),
    ],
)
def test_what_does_not_go_together(
    words: list[str], given: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    assert main(["chat", *words]) == 2
    assert message in capsys.readouterr().err
