"""Candidates: K answers to each prompt, as rows of a JSON lines file that grows and can be resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from palate.artifacts import JsonlWriter, read_jsonl
from palate.data.messages import RowError, read_turns
from palate.errors import ArtifactError, DataError
from palate.models.generate import Decoding, sampling_seed
from palate.progress import progress
from palate.records import Answer, Message, Messages, Role, as_turn

# Answers between two writes: what a kill can cost.
_AT_A_TIME = 64


class Answerer(Protocol):
    """What answers prompts: a model in this process or an engine.

    Attributes:
        name: as the user called it.
        identity: content hash of its weights, where they are known.
    """

    name: str
    identity: str | None

    def answers(self, prompts: Sequence[Messages], decoding: Decoding, seeds: Sequence[int]) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """One prompt with its answers.

    Attributes:
        id: the prompt's row, `file.jsonl:17`.
        prompt: the conversation so far.
        completions: the K answers.
        model: what wrote them.
    """

    id: str
    prompt: Messages
    completions: tuple[Answer, ...]
    model: str = ""


def write_candidates(
    prompts: Sequence[tuple[str, Messages]],
    answerer: Answerer,
    k: int,
    decoding: Decoding,
    *,
    path: Path,
) -> int:
    """Append what is missing to the candidates file at `path`; returns how many rows were made now.

    Args:
        prompts: (row id, conversation) of each row.
        k: answers to a prompt.
        decoding: its seed, the prompt and the answer's number decide what is sampled.

    Raises:
        ArtifactError: the file holds candidates made with other settings.
    """
    settings = _settings(answerer, k, decoding)
    done = _finished(path, settings) if path.exists() else {}
    waiting = [(row, prompt) for row, prompt in prompts if done.get(row) != _turns(prompt)]
    changed = next((row for row, _ in waiting if row in done), None)
    if changed is not None:
        raise ArtifactError(f"{path}: {changed} has another prompt there; the prompts changed, name another --out")
    before, made = len(prompts) - len(waiting), 0
    answering = progress("prompts answered", len(prompts), done=before)
    with JsonlWriter(path) as file, answering as answered:
        for rows in candidate_rows(waiting, answerer, k, decoding):
            for row in rows:
                file.write(row)
            made += len(rows)
            answered.advance(len(rows))
    return made


def candidate_rows(
    prompts: Sequence[tuple[str, Messages]], answerer: Answerer, k: int, decoding: Decoding
) -> Iterator[list[dict[str, Any]]]:
    """Rows as they are made, some at a time, in the order of the prompts."""
    settings = _settings(answerer, k, decoding)
    size = max(1, _AT_A_TIME // k)
    for start in range(0, len(prompts), size):
        chunk = prompts[start : start + size]
        asked = [prompt for _, prompt in chunk for _ in range(k)]
        seeds = [
            sampling_seed(decoding.seed, *(f"{turn.role}\0{turn.text}" for turn in prompt), number)
            for _, prompt in chunk
            for number in range(k)
        ]
        answers = answerer.answers(asked, decoding, seeds)
        yield [
            {
                "id": row,
                "prompt": _turns(prompt),
                "completions": [asdict(answer) for answer in answers[place * k : (place + 1) * k]],
                **{name: value for name, value in settings.items() if name != "k"},
            }
            for place, (row, prompt) in enumerate(chunk)
        ]


def read_candidates(path: str | Path) -> list[Candidates]:
    """The rows of a candidates file: `palate generate`'s, or any with `prompt` and a list of `completions`.

    Raises:
        DataError: a row has no prompt, fewer than one completion, or another row's id; names the row.
    """
    found: dict[str, Candidates] = {}
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"{path}:{number}"
        prompt, completions = row.get("prompt"), row.get("completions")
        if not isinstance(completions, list) or not completions:
            raise DataError(f"{where}: has no list of completions; `palate generate` writes candidates")
        name = str(row.get("id") or f"{Path(path).name}:{number}")
        if name in found:  # votes are told apart by it
            raise DataError(f"{where}: the id {name} is another row's too; give each row its own, or none")
        found[name] = Candidates(
            name,
            _messages(prompt, where),
            tuple(_answer(one, where) for one in completions),
            str(row.get("model") or ""),
        )
    if not found:
        raise DataError(f"{path}: the file has no candidates")
    return list(found.values())


def _settings(answerer: Answerer, k: int, decoding: Decoding) -> dict[str, Any]:
    how = asdict(decoding)
    return {"model": answerer.name, "identity": answerer.identity, "k": k, "seed": how.pop("seed"), "decoding": how}


def _finished(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Row id → prompt of what the file has already, made with the same settings."""
    rows = read_jsonl(path)
    for row in rows:
        for name, wanted in settings.items():
            has = len(row.get("completions") or ()) if name == "k" else row.get(name)
            if has != wanted:
                raise ArtifactError(
                    f"{path}: holds candidates made with {name} {has}, not {wanted}; name another --out or delete it"
                )
    return {str(row["id"]): row["prompt"] for row in rows}


def _turns(prompt: Messages) -> list[dict[str, Any]]:
    return [as_turn(message) for message in prompt]


def _messages(prompt: Any, where: str) -> Messages:
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    try:
        roles = [turn["role"] for turn in prompt]
        strange = next((role for role in roles if role not in get_args(Role)), None)
        turns = read_turns(prompt, "prompt") if strange is None else ()
    except (TypeError, KeyError) as error:
        raise DataError(f"{where}: prompt must be text or a list of {{role, content}}") from error
    except RowError as error:
        raise DataError(f"{where}: {error.detail}") from error
    if strange is not None or not turns:
        said = f"{strange!r} is no role" if strange is not None else "the prompt is empty"
        raise DataError(f"{where}: {said}; a prompt's turns are by {', '.join(get_args(Role))}")
    return turns


def _answer(value: Any, where: str) -> Answer:
    if isinstance(value, str):
        return Answer(value, "stop")
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        tokens = value.get("tokens")
        known = tokens if isinstance(tokens, int) else None
        return Answer(value["text"], str(value.get("finish_reason") or "stop"), known)
    raise DataError(f"{where}: a completion must be text or {{text, finish_reason, tokens}}")
