"""A small shell that types the commands of a page: palate's own in this process, all others in bash.

It knows what the pages use: `&&`, `|`, `>`, patterns of file names, variables and assignments before a command.
Commands that serve until Ctrl-C run in a thread, and stop when the next one starts or the page ends.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import uvicorn

from palate.cli.chat.answers import Compared
from palate.cli.main import main
from palate.network import server as palate_server

SERVERS = (("serve",), ("label", "serve"), ("web",))
"""Commands that serve until Ctrl-C."""
ADDRESS = re.compile(r"\b(127\.0\.0\.1|localhost|10\.0\.0\.\d|gpu-1):8000\b")
"""Where they, and engines, listen on the pages; here it is a free port of this machine."""
QUICK: Mapping[tuple[str, ...], Sequence[str]] = {
    ("train",): ("--set", "max_steps=2", "--set", "save_strategy=no"),
    ("demo",): ("--steps", "2"),
    ("chat",): ("--max-new-tokens", "4"),
    ("generate",): ("--max-new-tokens", "4"),
    ("eval", "winrate"): ("--max-new-tokens", "4"),
    ("eval", "frontier"): ("--max-new-tokens", "4", "--k", "2"),
    ("eval", "bench", "xstest"): ("--max-new-tokens", "4"),
    ("eval", "bench", "mtbench"): ("--max-new-tokens", "4"),
    ("eval", "bench", "alpacaeval"): ("--max-new-tokens", "4"),
    ("eval", "bench", "arenahard"): ("--max-new-tokens", "4"),
    ("data", "augment"): ("--max-new-tokens", "4"),
    ("eval", "must-pass"): ("--max-new-tokens", "4"),
    ("label", "serve"): ("--no-open",),
    ("web",): ("--no-open",),
}
"""What is added to the commands of the pages: on a tiny model, two steps and four tokens show that a command works."""
FEW = 6
"""Largest number of tokens and of rows, where a command limits them."""
OUTCOMES: Mapping[tuple[str, ...], Sequence[int]] = {("loop", "gate"): (0, 1, 3), ("loop", "canary"): (0, 1, 3)}
"""Exit codes of commands that decide; that of others is 0."""


class _Terminal(io.StringIO):
    """A person at a terminal, who has typed these lines."""

    def isatty(self) -> bool:
        return True


class Shell:
    """The terminal in which a page is typed, in the current folder.

    Args:
        variables: environment variables, and those that the page sets.
        engine: address of an OpenAI-compatible engine, which stands where no server of the page does.
    """

    def __init__(self, variables: Mapping[str, str], engine: str) -> None:
        self.variables = dict(variables)
        self.address = urlsplit(engine).netloc
        self.output = ""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, command: str) -> None:
        """One command line. AssertionError if it fails."""
        command = re.sub(r"\$(\w+)", lambda name: self.variables.get(name[1], name[0]), command)
        for part in split(command, "&&"):
            stages = split(part, "|")
            words = shlex.split(stages[-1])
            settings = dict(word.split("=", 1) for word in itertools.takewhile(_ASSIGNMENT.match, words))
            words = words[len(settings) :]
            if words[0] == "palate" and words[1] != "--install-completion":  # which asks what its parent process is
                given = self._bash(" | ".join(stages[:-1])) if len(stages) > 1 else None
                self._palate(words[1:], given, settings)
            else:
                self.output = self._bash(part)
                if token := re.search(r'"feedback_token": ?"([^"]+)"', self.output):  # as the reader copies it
                    self.variables["TOKEN"] = token[1]

    def addressed(self, text: str) -> str:
        """A text with the address of the running server or engine; a second machine is this one by its other name."""
        port = self.address.rpartition(":")[2]
        return ADDRESS.sub(lambda host: f"{'localhost' if host[1] == '10.0.0.2' else '127.0.0.1'}:{port}", text)

    def _bash(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{self.addressed(command)}\n:"],  # `:` so that bash stays the parent
            env=self.variables, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _palate(self, words: list[str], typed: str | None, settings: Mapping[str, str]) -> None:
        target = None
        if ">" in words:
            words, target = words[: words.index(">")], words[words.index(">") + 1]
        words = [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
        words = quick(words)
        if any(tuple(words[: len(verb)]) == verb for verb in SERVERS):
            self._serve(words)
            return
        words = [self.addressed(word) for word in words]
        stdin = io.StringIO("y\n" if typed is None else typed)  # a question whether to go on is answered
        if typed is None and words[0] == "chat":
            stdin = _Terminal("hello\n")
        said, complaints = io.StringIO(), io.StringIO()
        with (
            mock.patch.dict(os.environ, {**self.variables, **settings}),
            mock.patch("sys.stdin", stdin),
            mock.patch.object(Compared.__init__, "__defaults__", (lambda: "b",)),  # no key is pressed at a StringIO
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(complaints),
        ):
            code = main(words)
        self.output = said.getvalue()
        expected = next((codes for verb, codes in OUTCOMES.items() if tuple(words[: len(verb)]) == verb), (0,))
        failed = code not in expected or "palate: error:" in complaints.getvalue()
        assert not failed, f"palate {shlex.join(words)}: {code}\n{self.output[-1500:]}\n{complaints.getvalue()[-1500:]}"
        if target is not None:
            Path(target).write_text(self.output, encoding="utf-8")

    def _serve(self, words: Sequence[str]) -> None:
        """Start a server in a thread, and wait until it answers."""
        self._stack.close()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        servers: list[uvicorn.Server] = []
        codes: list[int] = []

        class Remembered(palate_server._Server):
            def run(self, *arguments: object, **options: object) -> None:
                servers.append(self)
                super().run(*arguments, **options)  # type: ignore[arg-type]

        patched = mock.patch.object(palate_server, "_Server", Remembered)
        patched.start()
        thread = threading.Thread(target=lambda: codes.append(main([*words, "--port", str(port)])))

        def stop() -> None:
            for server in servers:
                server.handle_exit(signal.SIGTERM, None)
            thread.join(60)
            patched.stop()
            logging.getLogger("palate.serving").handlers.clear()
            assert codes == [0], f"palate {shlex.join(words)}: {codes}"

        thread.start()
        end = time.monotonic() + 60
        while thread.is_alive() and not (servers and servers[0].started):
            assert time.monotonic() < end, f"palate {shlex.join(words)} does not answer"
            time.sleep(0.02)
        self._stack.callback(stop)
        assert not codes, f"palate {shlex.join(words)}: {codes}"
        self.address = f"127.0.0.1:{port}"
        with urllib.request.urlopen(f"http://{self.address}/{'v1/models' if words[0] == 'serve' else ''}") as reply:
            assert reply.status == 200


_ASSIGNMENT = re.compile(r"[A-Z_]+=")


def split(command: str, operator: str) -> list[str]:
    """The parts of a command line between the operators that are not quoted."""
    lexer = shlex.shlex(command, punctuation_chars=True)  # keeps quotes
    lexer.whitespace_split = True
    lexer.commenters = ""
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word == operator:
            parts.append([])
        else:
            parts[-1].append(word)
    return [" ".join(part) for part in parts]


def quick(words: Sequence[str]) -> list[str]:
    """The words with the options that make the command quick, unless they set these themselves."""
    found = [
        str(min(int(word), FEW)) if before in ("--max-samples", "--max-new-tokens") else word
        for before, word in zip(["", *words], words)
    ]
    recorded = words[:2] == ["eval", "winrate"] and words[2].endswith(".jsonl")  # no model answers
    for verb, added in () if recorded else QUICK.items():
        if tuple(words[: len(verb)]) == verb:
            pairs = zip(added[::2], added[1::2]) if len(added) > 1 else [(added[0],)]
            found += [word for pair in pairs if pair[0] == "--set" or pair[0] not in words for word in pair]
    return found
