"""Answers of models, each kept in a file as soon as it is there, so that a second run asks for nothing again."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

from palate.artifacts import JsonlWriter, plain, read_jsonl
from palate.errors import ArtifactError, EngineRefused, PalateError
from palate.records import Answer, Messages, as_turns

# Answers that are lost if the process is killed while a model in this process writes.
_BATCH = 16
# Prompts that an engine may refuse before it has answered any.
_REFUSALS = 3

_Waiting: TypeAlias = Mapping[str, tuple[Messages, str | None]]
"""Prompt and tools of each answer to ask for, by its key."""


class AnsweringModel(Protocol):
    """A model that answers conversations; `cli` makes one of a model in this process or an engine.

    Attributes:
        identity: content hash of its weights, None if an engine does not tell.
    """

    identity: str | None

    def ask(self, prompts: Sequence[Messages], *, seed: int, tools: Sequence[str | None] | None = None) -> list[Answer]:
        """One answer to each prompt, which depends on the seed and its own prompt only."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that is loaded when it is first asked.

    Attributes:
        name: as the user gave it.
        decoding: the settings of its sampling, for the rows.
        load: gives the model.
        at_once: requests in flight; 1 for a model in this process, which gets its prompts in batches.
    """

    name: str
    decoding: Mapping[str, Any]
    load: Callable[[], AnsweringModel]
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer in the file.

    Attributes:
        answer: text and end of the answer.
        identity: of the model that wrote it.
        refused: the engine's words if it refused this prompt; then the answer is empty.
    """

    answer: Answer
    identity: str | None
    refused: str = ""

    @property
    def text(self) -> str:
        return self.answer.text.strip()


class AnswerFile:
    """The answers of all models of one augmentation, and the settings that they were made with in the first line.

    Args:
        settings: everything apart from the prompts that the answers depend on.

    Raises:
        ArtifactError: the file has answers made with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        rows = read_jsonl(path) if path.exists() else []
        wanted = plain(settings)
        if rows:
            _check_settings(path, rows[0].get("settings"), wanted)
        self._kept = {row["key"]: _read(row) for row in rows[1:]}
        self._identities = {row["model"]: row["identity"] for row in rows[1:] if row.get("identity")}
        self._answered = {row["model"] for row in rows[1:] if not row.get("refused")}
        self._models: dict[str, AnsweringModel] = {}
        self.kept_before = len(self._kept)
        self.asked = 0
        self._path = path
        self._file = JsonlWriter(path, sync=True)
        if not rows:
            self._file.write({"settings": wanted})

    def ask(
        self, source: ModelSource, prompts: Sequence[Messages], *, seed: int, tools: Sequence[str | None] | None = None
    ) -> list[KeptAnswer]:
        """The model's answer to each prompt: from the file, else the model is asked and its answer kept.

        Raises:
            EngineError: the engine cannot be reached, or refused every prompt so far. What was answered is kept.
        """
        offered = tools or [None] * len(prompts)
        keys = [_key(source, seed, prompt, tool) for prompt, tool in zip(prompts, offered, strict=True)]
        waiting = {key: (prompt, tool) for key, prompt, tool in zip(keys, prompts, offered) if key not in self._kept}
        if waiting:
            model = self._load(source)
            ask = self._ask_in_batches if source.at_once == 1 else self._ask_each
            ask(source, model, waiting, seed)
        return [self._kept[key] for key in keys]

    def release(self, source: ModelSource) -> None:
        """Drop the loaded model, so that the next one has its memory."""
        self._models.pop(source.name, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _load(self, source: ModelSource) -> AnsweringModel:
        model = self._models.get(source.name)
        if model is None:
            model = self._models[source.name] = source.load()
            before = self._identities.setdefault(source.name, model.identity)
            if before != model.identity:
                raise ArtifactError(
                    f"{self._path}: {source.name} had other weights when its answers were made; "
                    "name another --output or delete it"
                )
        return model

    def _ask_in_batches(self, source: ModelSource, model: AnsweringModel, waiting: _Waiting, seed: int) -> None:
        keys = list(waiting)
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            prompts, tools = [waiting[key][0] for key in batch], [waiting[key][1] for key in batch]
            for key, answer in zip(batch, model.ask(prompts, seed=seed, tools=tools), strict=True):
                self._keep(source, model, key, answer)

    def _ask_each(self, source: ModelSource, model: AnsweringModel, waiting: _Waiting, seed: int) -> None:
        """One request per prompt; after a failure, those in flight are awaited and kept, and no more are sent."""
        rest = dict(waiting)
        refused: dict[str, str] = {}
        # A wrong key or model name is refused for every prompt, so until there is an answer only a few are sent.
        while rest and source.name not in self._answered:
            key, (prompt, tool) = next(iter(rest.items()))
            del rest[key]
            try:
                (answer,) = model.ask([prompt], seed=seed, tools=[tool])
            except EngineRefused as error:
                refused[key] = str(error)
                if not rest or len(refused) == _REFUSALS:
                    raise
            else:
                self._keep(source, model, key, answer)
        refused |= self._ask_at_once(source, model, rest, seed)
        for key, reason in refused.items():
            self._keep(source, model, key, Answer("", "refused"), reason)

    def _ask_at_once(self, source: ModelSource, model: AnsweringModel, waiting: _Waiting, seed: int) -> dict[str, str]:
        """Asks in several threads and keeps the answers; returns the refused requests with the engine's words."""
        stop = threading.Event()

        def send(prompt: Messages, tool: str | None) -> Answer | None:
            if stop.is_set():
                return None
            try:
                (answer,) = model.ask([prompt], seed=seed, tools=[tool])
            except EngineRefused:
                raise
            except PalateError:
                stop.set()
                raise
            return answer

        failure: PalateError | None = None
        refused: dict[str, str] = {}
        with ThreadPoolExecutor(source.at_once) as pool:
            sent = {pool.submit(send, prompt, tool): key for key, (prompt, tool) in waiting.items()}
            try:
                for future in as_completed(sent):
                    try:
                        answer = future.result()
                    except EngineRefused as error:
                        refused[sent[future]] = str(error)
                    except PalateError as error:
                        failure = failure or error
                    else:
                        if answer is not None:
                            self._keep(source, model, sent[future], answer)
            finally:
                stop.set()  # also after Ctrl-C, so that leaving the block waits for requests in flight only
        if failure is not None:
            raise failure
        return refused

    def _keep(self, source: ModelSource, model: AnsweringModel, key: str, answer: Answer, refused: str = "") -> None:
        row = {"key": key, "model": source.name, "identity": model.identity, **asdict(answer)}
        if refused:
            row["refused"] = refused
        else:
            self._answered.add(source.name)
        self._file.write(row)
        self._kept[key] = _read(row)
        self.asked += 1


def _key(source: ModelSource, seed: int, prompt: Messages, tools: str | None) -> str:
    """SHA-256 of everything that determines an answer."""
    content = json.dumps([source.name, plain(source.decoding), seed, as_turns(prompt), tools], ensure_ascii=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _read(row: Mapping[str, Any]) -> KeptAnswer:
    answer = Answer(str(row["text"]), str(row["finish_reason"]), row.get("tokens"))
    return KeptAnswer(answer, row.get("identity"), str(row.get("refused") or ""))


def _check_settings(path: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    """Raises ArtifactError that names the first setting that differs."""
    if not isinstance(found, dict):
        raise ArtifactError(f"{path}: its first line has no settings; the file is damaged: delete it")
    for name in {**found, **wanted}:
        if found.get(name) != wanted.get(name):
            raise ArtifactError(
                f"{path}: was made with {name} {found.get(name)}, not {wanted.get(name)}; "
                "name another --output or delete it"
            )
