"""Candidates: K answers to each prompt, as rows of a JSON lines file that is appended to and can be resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

from palate.artifacts import JsonlWriter, plain, read_jsonl
from palate.data.turns.cells import RowError
from palate.data.turns.messages import read_turns
from palate.errors import ArtifactError, DataError
from palate.models.generation.generate import Decoding, sampling_seed
from palate.progress import progress
from palate.records import Answer, Message, Messages, Record, Role, as_turns

# Answers between two writes: the most that a kill can lose.
_AT_A_TIME = 64

_ASKED = ("prompt", "tools", "columns")
# The fields of `palate generate`; every other field of a candidates file is a column of the user.
_OWN = ("id", "prompt", "columns", "completions", "model", "identity", "seed", "decoding")


class Answerer(Protocol):
    """Answers prompts: a model in this process or an engine.

    Attributes:
        name: as the user named it.
        identity: content hash of its weights, if known.
    """

    name: str
    identity: str | None

    def answers(
        self,
        prompts: Sequence[Messages],
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        tools: Sequence[str | None] | None = None,
    ) -> list[Answer]: ...


@dataclass(frozen=True, slots=True)
class Candidates:
    """One prompt with its answers.

    Attributes:
        id: the prompt's row, `file.jsonl:17`.
        prompt: the conversation so far.
        completions: the K answers.
        model: the name of the model that wrote them.
        columns: the other columns of the prompt's row, for judges that read them.
    """

    id: str
    prompt: Messages
    completions: tuple[Answer, ...]
    model: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict)


def write_candidates(
    prompts: Sequence[Record],
    answerer: Answerer,
    k: int,
    decoding: Decoding,
    *,
    path: Path,
) -> int:
    """Append the missing rows to the candidates file at `path`; returns how many were made now.

    Args:
        prompts: with tools, and with columns for judges in `extra`.
        k: answers to each prompt.
        decoding: its seed, the prompt and the answer's number determine what is sampled.

    Raises:
        ArtifactError: the file holds candidates made with other settings.
    """
    settings = _settings(answerer, k, decoding)
    done = _finished(path, settings) if path.exists() else {}
    changed = next((one.id for one in prompts if one.id in done and done[one.id] != _asked(one)), None)
    if changed is not None:
        raise ArtifactError(
            f"{path}: {changed} has another prompt or other columns there; the prompts changed, name another --output"
        )
    waiting = [one for one in _numbered(prompts) if one[0].id not in done]
    before, made = len(prompts) - len(waiting), 0
    answering = progress("prompts answered", len(prompts), done=before)
    with JsonlWriter(path) as file, answering as answered:
        for rows in _rows(waiting, answerer, k, decoding):
            for row in rows:
                file.write(row)
            made += len(rows)
            answered.advance(len(rows))
    return made


def candidate_rows(
    prompts: Sequence[Record], answerer: Answerer, k: int, decoding: Decoding
) -> Iterator[list[dict[str, Any]]]:
    """The rows, a few at a time as they are made, in the order of the prompts."""
    return _rows(_numbered(prompts), answerer, k, decoding)


def _numbered(prompts: Sequence[Record]) -> list[tuple[Record, int]]:
    """Each prompt with the number of equal prompts before it, so that equal prompts get different answers."""
    seen: Counter[str] = Counter()
    found = []
    for one in prompts:
        asked = repr((one.prompt, one.tools))
        found.append((one, seen[asked]))
        seen[asked] += 1
    return found


def _rows(
    prompts: Sequence[tuple[Record, int]], answerer: Answerer, k: int, decoding: Decoding
) -> Iterator[list[dict[str, Any]]]:
    settings = _settings(answerer, k, decoding)
    size = max(1, _AT_A_TIME // k)
    for start in range(0, len(prompts), size):
        chunk = prompts[start : start + size]
        asked = [one for one, _ in chunk for _ in range(k)]
        seeds = [
            sampling_seed(decoding.seed, *(f"{turn.role}\0{turn.text}" for turn in one.prompt), repeat * k + number)
            for one, repeat in chunk
            for number in range(k)
        ]
        answers = answerer.answers([one.prompt for one in asked], decoding, seeds, tools=[one.tools for one in asked])
        yield [
            {
                "id": one.id,
                **_asked(one),
                "completions": [asdict(answer) for answer in answers[index * k : (index + 1) * k]],
                **{name: value for name, value in settings.items() if name != "k"},
            }
            for index, (one, _) in enumerate(chunk)
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
        if name in found:  # votes refer to it
            raise DataError(f"{where}: the id {name} is another row's too; give each row its own, or none")
        found[name] = Candidates(
            name,
            _messages(prompt, where),
            tuple(_answer(one, where) for one in completions),
            str(row.get("model") or ""),
            {**{name: value for name, value in row.items() if name not in _OWN}, **(row.get("columns") or {})},
        )
    if not found:
        raise DataError(f"{path}: the file has no candidates")
    return list(found.values())


def _settings(answerer: Answerer, k: int, decoding: Decoding) -> dict[str, Any]:
    how = asdict(decoding)
    return {"model": answerer.name, "identity": answerer.identity, "k": k, "seed": how.pop("seed"), "decoding": how}


def _finished(path: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Row id → prompt, tools and columns of the rows that the file has, which must have the same settings."""
    rows = read_jsonl(path)
    for row in rows:
        for name, wanted in settings.items():
            has = len(row.get("completions") or ()) if name == "k" else row.get(name)
            if has != wanted:
                raise ArtifactError(
                    f"{path}: holds candidates made with {name} {has}, not {wanted}; name another --output or delete it"
                )
    return {str(row["id"]): {name: row[name] for name in _ASKED if name in row} for row in rows}


def _asked(record: Record) -> dict[str, Any]:
    """The fields of a row that hold its prompt."""
    tools = {"tools": record.tools} if record.tools else {}
    columns = {"columns": plain(record.extra)} if record.extra else {}
    return {"prompt": as_turns(record.prompt), **tools, **columns}


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
        problem = f"{strange!r} is not a role" if strange is not None else "the prompt is empty"
        raise DataError(f"{where}: {problem}; a prompt's turns are by {', '.join(get_args(Role))}")
    return turns


def _answer(value: Any, where: str) -> Answer:
    if isinstance(value, str):
        return Answer(value, "stop")
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        tokens = value.get("tokens")
        known = tokens if isinstance(tokens, int) else None
        return Answer(value["text"], str(value.get("finish_reason") or "stop"), known)
    raise DataError(f"{where}: a completion must be text or {{text, finish_reason, tokens}}")
