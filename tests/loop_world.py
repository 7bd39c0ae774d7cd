"""A loop whose models are a few numbers: commands without a model run in this process, the others are played.

The played model answers with its name; what its candidate is worth is written in `World.verdicts`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from model_folders import as_run, fake_model
from palate.artifacts import iter_jsonl
from palate.cli.main import main
from palate.data.formats.writers import write_rows
from palate.feedback.queue.ballot import Ballot, Choice
from palate.feedback.queue.voting import next_assignment, submit
from palate.loop.config import load_loop_config
from palate.loop.cycle import Loop
from palate.loop.tick import Ticked, tick
from palate.registry import add, promote
from palate.store import Store
from palate.store.tables import User
from recorded import Clock, Recording

MONDAY = datetime(2100, 2, 1, 6, tzinfo=UTC)
PROMPTS = 100
WINS = {"PASS": 75, "INCONCLUSIVE": 52, "FAIL": 20}
"""Prompts of 100 on which the candidate is better."""
GATE = """
prompts: heldout.jsonl
n: 100
judge: lexicon:good
judge_card: false
"""
TRAIN = """
stage: dpo
model_name_or_path: whatever
dataset: whatever
output_dir: whatever
"""
LOOP = """
name: support
collect: {at_least: 5, sample: 4, settle_minutes: 0}
annotate: {people: {days: 1}}
train: train.yaml
gate: gate.yaml
"""


class Killed(BaseException):
    """The end of the process at this moment."""


@dataclass
class World:
    """A loop with its store and clock.

    Attributes:
        verdicts: of the cycles in order; the last one holds on.
        commands: every command that was run, as words.
        interrupt: called before and after each command with its words and whether it has run.
    """

    folder: Path
    store: Store
    clock: Clock = field(default_factory=lambda: Clock(MONDAY))
    verdicts: list[str] = field(default_factory=lambda: ["PASS"])
    commands: list[tuple[str, ...]] = field(default_factory=list)
    interrupt: Callable[[tuple[str, ...], bool], None] = lambda words, has_run: None

    def __post_init__(self) -> None:
        self.recording = Recording(self.store, self.clock)
        self.people = 0

    @property
    def loop(self) -> Loop:
        file = self.folder / "loop.yaml"
        return Loop(file, load_loop_config(file), self.store)

    def tick(self, **options: Any) -> Ticked:
        return tick(self.loop, self.run, now=self.clock, **options)

    def pass_days(self, days: float) -> None:
        self.clock.now += timedelta(days=days)

    def talk(self, count: int = 6) -> None:
        """People use the served model; a minute passes."""
        for _ in range(count):
            self.people += 1
            said = f"question number {self.people} about the weather in spring"
            self.recording.complete(f"short {self.people}", prompt=said, user=f"user {self.people}")
        self.clock.now += timedelta(minutes=1)

    def vote(self, campaign: str, most: int = 100) -> int:
        """A person votes on up to `most` tasks of a campaign, each time for the longer answer."""

        def person(session: Session) -> int:
            found = session.scalar(select(User.id).where(User.name == "ann"))
            if found is None:
                session.add(User(name="ann", role="annotator", created=MONDAY))
                session.flush()
            return found or person(session)

        user = self.store.write(person)
        for given in range(most):
            task = self.store.write(lambda session: next_assignment(session, campaign, user, self.clock.now))
            if task is None:
                return given
            choice: Choice = "first" if len(task.first) > len(task.second) else "second"
            ballot = Ballot(choice, request_key=f"{campaign} {task.lease}")
            self.store.write(partial(submit, lease_id=task.lease, user_id=user, ballot=ballot, now=self.clock.now))
        return most

    def run(self, words: Sequence[str], log: Path) -> int:
        """`RunCommand`: the real command if it needs no model."""
        words = tuple(words)
        self.interrupt(words, False)
        self.commands.append(words)
        played = {("generate",): self._generate, ("train",): self._train, ("eval", "winrate"): self._winrate}
        play = next((play for verb, play in played.items() if words[: len(verb)] == verb), None)
        code = play(words) if play is not None else self.palate(*words, log=log)
        self.interrupt(words, True)
        return code

    def palate(self, *words: str, log: Path | None = None) -> int:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(words)
        if log is not None:
            with log.open("a", encoding="utf-8") as file:
                file.write(said.getvalue())
        assert log is not None or code == 0, said.getvalue()
        return code

    def _generate(self, words: tuple[str, ...]) -> int:
        output = Path(option(words, "--output"))
        output.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        for number, row in enumerate(iter_jsonl(words[1])):
            count, model = int(option(words, "--k")), option(words, "--model")
            texts = [f"a long answer of {model} to {row['id']}, number {at}{'!' * at}" for at in range(count)]
            rows.append(
                {
                    "id": f"{Path(words[1]).name}:{number + 1}",
                    "prompt": row["prompt"],
                    "columns": {"id": row["id"]},
                    "completions": [{"text": text, "finish_reason": "stop", "tokens": 9} for text in texts],
                    "model": model,
                    "identity": "aa",
                    "seed": 42,
                    "decoding": {"temperature": 1.0},
                }
            )
        write_rows(output, rows)
        return 0

    def _train(self, words: tuple[str, ...]) -> int:
        given = dict(word.split("=", 1) for word in words if "=" in word)
        output, (dataset,) = Path(json.loads(given["output_dir"])), json.loads(given["dataset"])
        learnt = Path(dataset).read_bytes()
        base = json.loads(given["model_name_or_path"])
        digest = int(sha256(learnt + base.encode()).hexdigest()[:6], 16)
        as_run(fake_model(output, float(digest)), base)
        return 0

    def _winrate(self, words: tuple[str, ...]) -> int:
        """A real win rate of recorded answers, of which as many are good as the verdict needs."""
        output, candidate = Path(option(words, "--output")), words[2]
        number = int(output.parts[-3])
        wins = WINS[self.verdicts[min(number, len(self.verdicts)) - 1]]
        names = [str(self.folder / f"{version}.jsonl") for version in words[2:4]]
        if wins in _MEASURED:
            before, files = _MEASURED[wins]
            for name, content in files.items():
                for old, new in zip(before, names):
                    content = content.replace(old, new)
                output.mkdir(parents=True, exist_ok=True)
                (output / name).write_text(content)
            return 0
        for side, name in enumerate(names):
            rows = []
            for at, row in enumerate(iter_jsonl("heldout.jsonl")):
                good = (at * 7 % PROMPTS < wins) == (side == 0)
                digest = sha256(f"{candidate} {side} {at}".encode()).hexdigest()
                text = f"{'good' if good else 'fine'} {digest[: 20 + at % 7]}"
                rows.append({**row, "id": f"p{at}", "completions": [text], "identity": words[2 + side]})
            write_rows(Path(name), rows)
        code = self.palate("eval", "winrate", *names, *words[4:])
        _MEASURED[wins] = names, {path.name: path.read_text() for path in output.iterdir() if path.is_file()}
        return code


_MEASURED: dict[int, tuple[list[str], dict[str, str]]] = {}
"""Good answers of the candidate → names of both sides, and the files of a win rate that was measured once."""


def option(words: Sequence[str], name: str) -> str:
    """The value of an option of a command."""
    return words[list(words).index(name) + 1]


def make_world(folder: Path, store: Store, url: str, loop: str = LOOP) -> World:
    """A world whose v1.0 is in production; its folder becomes the current one."""
    os.environ["PALATE_STORE"] = url
    os.chdir(folder)
    write_rows(folder / "heldout.jsonl", [{"prompt": f"held out prompt with the number {n}"} for n in range(PROMPTS)])
    for name, text in (("gate.yaml", GATE), ("train.yaml", TRAIN), ("loop.yaml", loop)):
        (folder / name).write_text(text)
    add(store, fake_model(folder / "first", 1.5), models_dir=folder / "models", who="ann")
    promote(store, "v1.0", reason="first", who="ann")
    return World(folder, store)
