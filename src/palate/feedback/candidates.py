"""Candidates: K answers to each prompt, as rows of a JSON lines file that is appended to and can be resumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

from palate.artifacts import JsonlWriter, iter_jsonl, plain, read_jsonl, sole_writer
from palate.charts.text import amount
from palate.data.formats.rows import read_tools
from palate.data.turns.cells import RowError
from palate.data.turns.messages import read_turns
from palate.errors import ArtifactError, DataError, UsageError
from palate.feedback.shards import FIELD, Shard
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.progress import progress
from palate.records import Answer, Message, Messages, Record, Role, as_turns

# At most this many answers of a model in this process are lost if the process is killed; of an engine, those that it
# was asked for ahead.
_ANSWERS_PER_WRITE = 64
_ANSWERS_PER_QUEUE = 4096

_PROMPT_FIELDS = ("prompt", "tools", "columns")
# Every other field of a candidates file is a column of the user.
_ROW_FIELDS = ("id", "prompt", "tools", "columns", "completions")
_ORIGIN_TYPES: Mapping[str, type] = {"model": str, "identity": str, "seed": int, "decoding": dict}
_ORIGIN_FIELDS = frozenset(_ORIGIN_TYPES)


SAME_MODEL = "same_model"
"""Column of a row whose answers are by the same weights: its pairs train, and are no comparison of models."""


class Answerer(Protocol):
    """Answers prompts: a model in this process or an engine.

    Attributes:
        name: the name that the user gave.
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


@runtime_checkable
class EngineAnswerer(Answerer, Protocol):
    """An engine: it answers many prompts at once, and gives each answer as soon as it is there.

    Attributes:
        answered: URL of each endpoint → number of requests that it answered.
    """

    @property
    def answered(self) -> dict[str, int]: ...

    @property
    def answers_in_order(self) -> Callable[..., Iterator[Answer]]: ...


def endpoint_counts(answerer: object) -> dict[str, int]:
    """URL → number of requests that it answered, of an engine; {} of a model in this process."""
    return answerer.answered if isinstance(answerer, EngineAnswerer) else {}


@dataclass(frozen=True, slots=True)
class AnswerOrigin:
    """What wrote an answer.

    Attributes:
        model: its name.
        identity: content hash of its weights and config, if known.
        seed: of the sampling, if known.
        decoding: the other settings of the sampling.
    """

    model: str = ""
    identity: str | None = None
    seed: int | None = None
    decoding: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Model, identity, seed and decoding, without those that are not known."""
        values = {"model": self.model, "identity": self.identity, "seed": self.seed, "decoding": dict(self.decoding)}
        return {name: value for name, value in values.items() if value not in ("", None, {})}


@dataclass(frozen=True, slots=True)
class Candidates:
    """One prompt with its answers.

    Attributes:
        id: the prompt's row, `file.jsonl:17`.
        prompt: the conversation so far.
        completions: the K answers.
        columns: the other columns of the prompt's row, for judges that use them.
        tools: JSON list of tool specifications, if any.
        origins: what wrote each answer; empty where nothing is known of any.
    """

    id: str
    prompt: Messages
    completions: tuple[Answer, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)
    tools: str | None = None
    origins: tuple[AnswerOrigin, ...] = ()

    @property
    def judge_columns(self) -> Mapping[str, Any]:
        """What a judge's function may ask for: `columns`, and `tools` if there are any."""
        return self.columns if self.tools is None else {**self.columns, "tools": self.tools}

    def origin(self, number: int) -> AnswerOrigin:
        """What wrote the answer with this index."""
        return self.origins[number] if self.origins else AnswerOrigin()

    def with_origins(self, origins: Sequence[AnswerOrigin]) -> Candidates:
        """The same row with an origin for each answer."""
        known = any(origin != AnswerOrigin() for origin in origins)
        return replace(self, origins=tuple(origins) if known else ())

    def to_json(self) -> dict[str, Any]:
        """The row of a candidates file, as `palate generate` writes it; `read_candidates` gives the same back."""
        first = self.origin(0)
        same = all(origin == first for origin in self.origins)
        shared = first.to_json() if same else {}
        if "decoding" in shared:  # a row of `palate generate`, which writes all four
            shared = {name: getattr(first, name) for name in _ORIGIN_TYPES}
        completions = [
            asdict(answer) | ({} if same else self.origin(number).to_json())
            for number, answer in enumerate(self.completions)
        ]
        return {
            "id": self.id,
            "prompt": prompt_turns(self.prompt),
            **({"tools": self.tools} if self.tools is not None else {}),
            **({"columns": dict(self.columns)} if self.columns else {}),
            "completions": completions,
            **shared,
        }


def write_candidates(
    prompts: Sequence[Record],
    answerer: Answerer,
    k: int,
    decoding: Decoding,
    *,
    path: Path,
    shard: Shard | None = None,
) -> int:
    """Append the missing rows to the candidates file at `path`; returns the number of new rows.

    Args:
        prompts: records with a prompt, tools, and columns for judges in `extra`.
        decoding: an answer depends on its seed, the prompt and the answer's index only.
        shard: of the prompts, which the file is for; the answers are those of a run without shards.

    Raises:
        UsageError: there are fewer prompts than shards.
        ArtifactError: the file has candidates made with other settings, or another process writes to it.
    """
    settings = _settings(answerer, k, decoding, prompts, shard)
    numbered = _numbered(prompts, shard)
    with sole_writer(path):
        done = _finished(path, settings) if path.exists() else {}
        for row, _ in numbered:
            if row.id in done and done[row.id] != _prompt_fields(row):
                why = f"{row.id} has another prompt or other columns there; the prompts changed"
                raise ArtifactError(f"{path}: {why}, name another --output")
        waiting = [(row, repeat) for row, repeat in numbered if row.id not in done]
        answering = progress("prompts answered", len(numbered), done=len(numbered) - len(waiting))
        with JsonlWriter(path) as file, answering as answered:
            for made in _rows(waiting, answerer, k, decoding, settings):
                file.write(made)
                answered.advance()
    return len(waiting)


def candidate_rows(
    prompts: Sequence[Record], answerer: Answerer, k: int, decoding: Decoding, shard: Shard | None = None
) -> Iterator[dict[str, Any]]:
    """Generate the rows in the order of the prompts."""
    return _rows(_numbered(prompts, shard), answerer, k, decoding, _settings(answerer, k, decoding, prompts, shard))


def _numbered(prompts: Sequence[Record], shard: Shard | None) -> list[tuple[Record, int]]:
    """Each prompt of a shard with the number of equal prompts before it, so that equal ones get different answers."""
    seen: Counter[str] = Counter()
    found = []
    for record in prompts:
        key = repr((record.prompt, record.tools))
        found.append((record, seen[key]))
        seen[key] += 1
    return found if shard is None else shard.of(found)


def _rows(
    prompts: Sequence[tuple[Record, int]],
    answerer: Answerer,
    k: int,
    decoding: Decoding,
    settings: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    answer: Callable[..., Iterable[Answer]] = answerer.answers
    most = _ANSWERS_PER_WRITE
    if isinstance(answerer, EngineAnswerer):
        answer, most = answerer.answers_in_order, _ANSWERS_PER_QUEUE
    size = max(1, most // k)
    for start in range(0, len(prompts), size):
        chunk = prompts[start : start + size]
        repeated = [record for record, _ in chunk for _ in range(k)]
        seeds = [
            sampling_seed(decoding.seed, *(f"{turn.role}\0{turn.text}" for turn in record.prompt), repeat * k + number)
            for record, repeat in chunk
            for number in range(k)
        ]
        prompts_k, tools_k = [record.prompt for record in repeated], [record.tools for record in repeated]
        answers = iter(answer(prompts_k, decoding, seeds, tools=tools_k))
        for record, _ in chunk:
            yield {
                "id": record.id,
                **_prompt_fields(record),
                "completions": [asdict(answer) for answer in islice(answers, k)],
                **{name: value for name, value in settings.items() if name != "k" and (name, value) != (FIELD, None)},
            }


def read_candidates(path: str | Path) -> list[Candidates]:
    """Read a candidates file, from `palate generate` or any other with `prompt` and a list of `completions`.

    Raises:
        DataError: a row has no prompt, no completion, or another row's id; names the row.
    """
    return list(iter_candidates(path))


def iter_candidates(path: str | Path) -> Iterator[Candidates]:
    """The same, one row at a time, for files that are too large to be held."""
    seen: set[str] = set()
    for number, row in enumerate(iter_jsonl(path), 1):
        where = f"{path}:{number}"
        name = str(row.get("id") or f"{Path(path).name}:{number}")
        if name in seen:  # votes refer to it
            raise DataError(f"{where}: the id {name} is another row's too; give each row its own, or none")
        seen.add(name)
        yield read_candidate(row, name, where)
    if not seen:
        raise DataError(f"{path}: the file has no candidates")


def read_candidate(row: Mapping[str, Any], name: str, where: str) -> Candidates:
    """A row of a candidates file; raises DataError, which `where` names, if it is none."""
    completions, given = row.get("completions"), row.get("columns")
    if not isinstance(completions, list) or not completions:
        raise DataError(
            f"{where}: has no list of completions (answers); candidates are rows of a prompt and its completions"
        )
    if given is not None and not isinstance(given, Mapping):
        raise DataError(f"{where}: columns is {type(given).__name__}, not an object of columns and their values")
    try:
        tools = read_tools(row.get("tools"))
    except RowError as error:
        raise DataError(f"{where}: {error.detail}") from error
    shared, used = _origin(row, AnswerOrigin())
    columns = {name: value for name, value in row.items() if name not in _ROW_FIELDS and name not in used}
    read = Candidates(
        name,
        read_prompt(row.get("prompt"), where),
        tuple(_answer(completion, where) for completion in completions),
        columns={**columns, **(given or {})},
        tools=tools,
    )
    own = [
        shared
        if isinstance(completion, str) or _ORIGIN_FIELDS.isdisjoint(completion)
        else _origin(completion, shared)[0]
        for completion in completions
    ]
    return read.with_origins(own)


def _origin(row: Mapping[str, Any], default: AnswerOrigin) -> tuple[AnswerOrigin, set[str]]:
    """The origin that a row or a completion names, and the fields that it is made of.

    A field of another type than `palate generate` writes is a user's own column of the same name.
    """
    values = {
        name: row[name]
        for name, kind in _ORIGIN_TYPES.items()
        if isinstance(row.get(name), kind) and not isinstance(row[name], bool)
    }
    used = {*values, *(name for name in _ORIGIN_TYPES if row.get(name) is None)}
    return replace(default, **values), used


def _settings(
    answerer: Answerer, k: int, decoding: Decoding, prompts: Sequence[Record], shard: Shard | None
) -> dict[str, Any]:
    """The fields of every row that must be the same in the whole file; `prompts` are those of all shards."""
    rest = asdict(decoding)
    fields = {"model": answerer.name, "identity": answerer.identity, "k": k, "seed": rest.pop("seed"), "decoding": rest}
    if shard is not None and shard.count > len(prompts):
        raise UsageError(
            f"shard {shard.number}/{shard.count}: there are only {amount(len(prompts), 'prompt')}; make fewer shards"
        )
    mark = None if shard is None else shard.mark([[record.id, _prompt_fields(record)] for record in prompts])
    return {**fields, FIELD: mark}


def _finished(path: Path, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Row id → prompt, tools and columns of the file's rows; raises ArtifactError if their settings differ."""
    rows = read_jsonl(path)
    for row in rows:
        for name, wanted in settings.items():
            has = len(row.get("completions") or ()) if name == "k" else row.get(name)
            if has != wanted:
                raise ArtifactError(
                    f"{path}: has candidates made with {name} {has}, not {wanted}; name another --output or delete it"
                )
    return {str(row["id"]): {name: row[name] for name in _PROMPT_FIELDS if name in row} for row in rows}


def _prompt_fields(record: Record) -> dict[str, Any]:
    """The fields of a candidates row that come from the prompt's record."""
    tools = {"tools": record.tools} if record.tools else {}
    columns = {"columns": plain(record.extra)} if record.extra else {}
    return {"prompt": as_turns(record.prompt), **tools, **columns}


def prompt_turns(prompt: Messages) -> list[dict[str, Any]]:
    """The turns of a prompt such that `read_prompt` gives the same back."""
    # Arguments that are a text, as an object's would, lose their quotes; a flag is no key of the OpenAI format.
    as_text = any(isinstance(call.value, str) for message in prompt for call in message.tool_calls)
    turns = as_turns(prompt, arguments_as_text=as_text)
    return [turn if message.trained else {**turn, "train": False} for turn, message in zip(turns, prompt)]


def read_prompt(prompt: Any, where: str) -> Messages:
    """The messages of a prompt: a text, or a list of turns.

    Raises:
        DataError: it is neither, or a turn cannot be represented.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    try:
        roles = [turn["role"] for turn in prompt]
        unknown = next((role for role in roles if role not in get_args(Role)), None)
        turns = read_turns(prompt, "prompt") if unknown is None else ()
    except (TypeError, KeyError) as error:
        raise DataError(f"{where}: prompt must be text or a list of {{role, content}}") from error
    except RowError as error:
        raise DataError(f"{where}: {error.detail}") from error
    if unknown is not None or not turns:
        problem = f"{unknown!r} is not a role" if unknown is not None else "the prompt is empty"
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
