"""The whole circle with the demo's model and data: serve, talk, collect, train, evaluate, gate, deploy, roll back.

Everything is done by palate commands that are printed, in one folder with a database of its own. The people who talk to
the gateway are simulated (`loop.demo.people`), and a reward model of the demo's pairs is the judge.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import yaml

from palate.artifacts import read_json, remove_folder, write_errors, write_text
from palate.data.formats.targets import palate_row
from palate.data.formats.writers import write_rows
from palate.data.load import load_records
from palate.data.turns.messages import user
from palate.errors import ArtifactError, EngineError, PalateError
from palate.loop.demo.people import Client, Talk, talk
from palate.loop.process import start_command
from palate.records import PreferencePair
from palate.store.urls import VARIABLE

_MARK = "circle.json"
_MODEL = "smollm2-135m-instruct"
_TALKS = 160
"""Conversations of the simulated people before the cycle."""
_ASKED_AGAIN = 12
"""Held-out questions that are asked of every version at the end."""
_ADDRESS = re.compile(r"http://\S+/v1")
_SET_BY_THE_CYCLE = {"model_name_or_path": "set by the cycle", "dataset": "set by the cycle", "output_dir": "train"}
_SWITCH_SECONDS = 120.0

TRAINING: Mapping[str, Any] = {
    "stage": "dpo",
    # Only the last layers are trained, so the others run once. The SFT term keeps answers fluent at this learning rate.
    "finetuning_type": "freeze",
    "freeze_trainable_layers": 12,
    "pref_beta": 0.1,
    "pref_ftx": 1.0,
    "learning_rate": 1e-4,
    "warmup_ratio": 0.05,
    "per_device_train_batch_size": 8,
    "cutoff_len": 512,
    "max_tokens_per_batch": 1024,
    "logging_steps": 15,
    "save_strategy": "no",
    "sample_prompts": 0,
}
"""Of `palate demo`, and of the candidate of `palate demo --loop`."""
_REWARD: Mapping[str, Any] = {
    **{key: value for key, value in TRAINING.items() if not key.startswith(("pref_", "sample_"))},
    "stage": "rm",
    "model_name_or_path": _MODEL,
    "dataset": "known.jsonl",
    "output_dir": "judge",
}
_GATE: Mapping[str, Any] = {
    "prompts": "heldout.jsonl",
    "judge": "judge",
    "decoding": {"max_new_tokens": 40},
    "length_ratio": [0.4, 2.5],
    "empty_or_repeated": 0.03,
    "judge_card": False,  # nobody labelled for this demo
}
_LOOP: Mapping[str, Any] = {
    "name": "demo",
    "schedule": "none",
    "collect": {"at_least": _TALKS // 2, "sample": 60, "settle_minutes": 0},
    "candidates": {"k": 2, "max_new_tokens": 64},
    "annotate": {"judge": "judge"},
    "sources": {"edits": 1.0, "choices": 1.0, "judge": 0.5},
    "train": "train.yaml",
    "gate": "gate.yaml",
    "deploy": "on_pass",
    "force_days": 0,
    # 20 people talk; without this, each would have 1 % of the rows at most.
    "options": {"from-interactions": "--share-per-user 0.2"},
}
_KIND = "self"
"""The demo's questions that take the assistant for a person; the others are about facts."""
_SHORT = " Answer in one sentence."
"""At the end of every question: the answers have similar lengths, so that the gate need not doubt which counts."""
_HELD_OUT_TOPICS = 3
"""Topics of the demo's training set that are held out too, so that the gate has its 100 prompts."""


@dataclass(frozen=True, slots=True)
class Circle:
    """The result of the demo.

    Attributes:
        outcome: of the cycle: deployed or rejected.
        verdict: the content of gate.json.
        talk: what the simulated people said of the first version.
        asked: held-out question → version → its answer.
        answering: the versions that answered, in order: before, after, after the rollback.
        learnt_from: what the version of a served answer learnt from, by `palate model show COMPLETION --votes`.
        seconds: in all.
    """

    outcome: str
    verdict: Mapping[str, Any]
    talk: Talk
    asked: Mapping[str, Mapping[str, str]]
    answering: tuple[str, ...]
    learnt_from: str
    seconds: float


def run_circle(folder: Path, *, steps: int, on_progress: Callable[[str], None]) -> Circle:
    """Run the circle in a folder; an earlier demo there is replaced.

    Args:
        steps: optimiser steps of the reward model and of the candidate.

    Raises:
        ArtifactError: the folder holds something else.
        PalateError: a command failed; its own line was printed before.
    """
    begin = time.monotonic()
    _replace(folder)
    with _database(folder), contextlib.chdir(folder):
        people, held_out = _write_files(steps)
        palate = partial(_run, on_progress)
        palate("train", "judge.yaml")
        palate("model", "export", _MODEL, "--merged", "--no-check", "--output", "base")
        palate("model", "add", "base", "--name", "v1.0", "--note", "the model as it comes")
        palate("model", "promote", "v1.0", "--reason", "the first version")
        key = json.loads(palate("keys", "create", "chat-page", "--record", "full", "--consent", "--json"))["key"]
        questions = [pair.prompt[-1].text for pair in held_out[:: len(held_out) // _ASKED_AGAIN][:_ASKED_AGAIN]]
        asked: dict[str, dict[str, str]] = {question: {} for question in questions}
        with _server(on_progress) as url:
            client = Client(url, key)
            answering = [_ask(client, asked)]
            on_progress(
                f"{_TALKS} simulated conversations with {answering[-1]}: corrections, choices of two answers, thumbs"
            )
            said = talk(client, people[:: len(people) // _TALKS][:_TALKS])
            palate("loop", "tick", "loop.yaml")
            verdict = read_json(Path("cycles", "0001", "gate", "gate.json"))
            outcome = json.loads(palate("loop", "status", "loop.yaml", "--json"))["past"][0]["outcome"]
            learnt_from = ""
            if outcome == "deployed":
                _wait_for(client, verdict["versions"]["candidate"])
                answering.append(_ask(client, asked))
                shown = json.loads(palate("model", "show", client.ask(questions[0]).id, "--votes", "--json"))
                learnt_from = "; ".join(
                    f"{one['version']}: {len(one['votes'])} votes, {len(one['interactions'])} interactions"
                    for one in shown["learnt_from"]
                    if one["votes"] or one["interactions"]
                )
                palate("model", "rollback", "--reason", "a drill")
                _wait_for(client, answering[0])
                answering.append(_ask(client, asked))
                palate("model", "promote", answering[1], "--reason", "the drill is over")
        palate("model", "verify")
    return Circle(outcome, verdict, said, asked, tuple(answering), learnt_from, time.monotonic() - begin)


def _run(on_progress: Callable[[str], None], *words: str) -> str:
    """Run a palate command in the current folder; returns what it printed. Its progress goes to the terminal."""
    on_progress(f"$ {shlex.join(['palate', *words])}")
    with start_command(words, stdout=PIPE) as process:
        printed = process.communicate()[0].decode(errors="replace")
    if process.returncode != 0:
        raise PalateError(f"palate {words[0]} ended with code {process.returncode}; its message is above")
    return printed


def _replace(folder: Path) -> None:
    """Make the folder new; an earlier demo in it is deleted."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        raise ArtifactError(f"{folder}: holds something else than this demo; choose another --output")
    if folder.is_dir():
        remove_folder(folder)
    with write_errors(folder):
        folder.mkdir(parents=True)
    write_text(folder / _MARK, "`palate demo --loop` deletes this folder and makes it again\n")


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[None]:
    """A context in which commands use the demo's own database."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = f"sqlite:///{folder.absolute() / 'palate.db'}"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def _write_files(steps: int) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Write the configs and the prompts of the gate; returns the pairs that people know, and the held-out ones."""
    pairs, held_out = _questions("palate-demo"), _questions("palate-demo-heldout")
    topics = sorted({str(one.extra["topic"]) for one in pairs})[:_HELD_OUT_TOPICS]
    known = [one for one in pairs if one.extra["topic"] not in topics]
    held_out += [one for one in pairs if one.extra["topic"] in topics]
    write_rows(Path("known.jsonl"), ({"id": one.id, **palate_row(one)} for one in known))
    write_rows(Path("heldout.jsonl"), ({"id": one.id, "prompt": one.prompt[-1].text} for one in held_out))
    configs = {
        "judge.yaml": {**_REWARD, "max_steps": steps},
        "train.yaml": {**TRAINING, "max_steps": steps, **_SET_BY_THE_CYCLE},
        "gate.yaml": {**_GATE, "n": len(held_out)},
        "loop.yaml": _LOOP,
    }
    for name, values in configs.items():
        write_text(Path(name), yaml.safe_dump(dict(values), sort_keys=False))
    return known, held_out


def _questions(name: str) -> list[PreferencePair]:
    """The pairs of a built-in set about questions of `_KIND`, with `_SHORT`."""
    found = load_records(name, kind=PreferencePair, keep_columns=True).records
    return [replace(one, prompt=user(one.prompt[-1].text + _SHORT)) for one in found if one.extra.get("kind") == _KIND]


@contextlib.contextmanager
def _server(on_progress: Callable[[str], None]) -> Iterator[str]:
    """A context in which the gateway serves the alias `production`; gives its address up to `/v1`."""
    words = ("serve", "--alias", "production", "--port", "0")
    on_progress(f"$ {shlex.join(['palate', *words])} &")
    with start_command(words, stdout=PIPE) as process:
        try:
            assert process.stdout is not None
            found = _ADDRESS.search(process.stdout.readline().decode())
            if found is None:
                raise EngineError("the gateway did not start; its message is above")
            yield found[0]
        finally:
            process.terminate()


def _ask(client: Client, asked: Mapping[str, dict[str, str]]) -> str:
    """Ask every held-out question; returns the version that answers."""
    answers = client.ask_all(list(asked))
    for question, answer in zip(asked, answers, strict=True):
        asked[question][answer.model] = answer.text
    return answers[-1].model


def _wait_for(client: Client, version: str) -> None:
    """Wait until the gateway answers with a version, which it loads beside the one before."""
    begin = time.monotonic()
    while client.ask("Hello").model != version:
        if time.monotonic() - begin > _SWITCH_SECONDS:
            raise EngineError(f"the gateway still does not answer with {version}; its messages are above")
        time.sleep(1)
