"""Models that score or answer the items of a benchmark: policies, reward models and judges; what they gave is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from palate.artifacts import JsonlWriter, json_hash, read_jsonl
from palate.errors import ArtifactError, ModelError
from palate.evaluation.accuracy.rewards import load_reward_model
from palate.evaluation.benchmarks.benchmark import Item, Outcome
from palate.evaluation.benchmarks.contestants import Contestant
from palate.evaluation.benchmarks.encode import chat_groups, plain_groups, prompt_groups
from palate.evaluation.subject import Subject
from palate.feedback.judges.load import load_judge
from palate.models.generation.decoding import Decoding, sampling_seed
from palate.models.generation.local.generate import generate
from palate.models.precision import Precision
from palate.models.probe.limits import trained_length
from palate.records import LEFT_SHARE, Dropped
from palate.text.groups import EncodedGroup


@dataclass(frozen=True, slots=True)
class ScoringSettings:
    """How items are scored.

    Attributes:
        precision, device: of the forward passes.
        cutoff_len: longest sequence in tokens; a model's own limit may be lower.
        form: `plain` text or `chat`, or `written` if the model writes its own answers.
        separator: between a plain prompt and an answer.
        decoding: of written answers.
    """

    precision: Precision
    device: torch.device
    cutoff_len: int
    form: str
    separator: str
    decoding: Decoding


@dataclass(frozen=True, slots=True)
class Prepared:
    """An item that is ready to be scored: its tokens, None for a judge, and a hash of all that is read of it."""

    item: Item
    group: EncodedGroup | None
    content: str


class Scorer(Protocol):
    """A loaded model.

    `settings` is what determines its outcomes beside an item; None if they must not be kept, because the weights have
    no identity.
    """

    settings: Mapping[str, Any] | None
    limit: int | None

    def prepare(self, items: Sequence[Item]) -> list[Prepared | Dropped]: ...

    def score(self, batch: Sequence[Prepared]) -> Sequence[Outcome | Dropped]:
        """The outcome of each item, or why there is none, as of a judge without a readable verdict."""
        ...


def load_scorer(contestant: Contestant, settings: ScoringSettings) -> Scorer:
    """Load what a contestant names."""
    if contestant.spec is None:
        return JudgeScorer(contestant)
    if contestant.kind == "reward model":
        return RewardScorer(contestant, settings)
    subject = Subject(contestant.spec, settings.precision, settings.device)
    return AnswerScorer(subject, settings) if settings.form == "written" else PolicyScorer(subject, settings)


def _limit(cutoff_len: int, trained: int | None) -> int:
    return cutoff_len if trained is None else min(cutoff_len, trained)


def _prepared(items: Sequence[Item], groups: Sequence[EncodedGroup | Dropped]) -> list[Prepared | Dropped]:
    return [
        group if isinstance(group, Dropped) else Prepared(item, group, group.content_hash.hex())
        for item, group in zip(items, groups, strict=True)
    ]


def _groups_of(batch: Sequence[Prepared]) -> list[EncodedGroup]:
    return [one.group for one in batch if one.group is not None]


class PolicyScorer:
    """Σ log π of each choice; the choices of an item share one prompt (tree attention)."""

    def __init__(self, subject: Subject, settings: ScoringSettings) -> None:
        self._subject, self._how = subject, settings
        self.limit: int | None = _limit(settings.cutoff_len, trained_length(subject.model))
        self.settings: Mapping[str, Any] | None = _kept_under("logps", subject.identity, settings)

    def prepare(self, items: Sequence[Item]) -> list[Prepared | Dropped]:
        template, limit = self._subject.template, int(self.limit or 0)
        if self._how.form == "plain":
            return _prepared(items, plain_groups(items, template, limit, separator=self._how.separator))
        return _prepared(items, chat_groups(items, template, limit))

    def score(self, batch: Sequence[Prepared]) -> list[Outcome]:
        return [Outcome(tuple(sums), tuple(counts)) for sums, counts in self._subject.score(_groups_of(batch))]


class AnswerScorer:
    """Answers that the model writes."""

    def __init__(self, subject: Subject, settings: ScoringSettings) -> None:
        self._subject, self._how = subject, settings
        self.limit: int | None = _limit(settings.cutoff_len, trained_length(subject.model))
        decoding = settings.decoding
        kept = _kept_under("answers", subject.identity, settings)
        self.settings: Mapping[str, Any] | None = kept and {
            **kept,
            "max_new_tokens": decoding.max_new_tokens,
            "temperature": decoding.temperature,
            "seed": decoding.seed,
            "stop": list(subject.template.stop_ids),
        }

    def prepare(self, items: Sequence[Item]) -> list[Prepared | Dropped]:
        new, limit = self._how.decoding.max_new_tokens, int(self.limit or 0)
        return _prepared(items, prompt_groups(items, self._subject.template, limit, max_new_tokens=new))

    def score(self, batch: Sequence[Prepared]) -> list[Outcome]:
        template, decoding = self._subject.template, self._how.decoding
        written = generate(
            self._subject.model,
            [group.prompt_ids.tolist() for group in _groups_of(batch)],
            decoding,
            stop_ids=template.stop_ids,
            precision=self._how.precision,
            # Of the item's id, so that an answer does not depend on which other items are asked.
            seeds=[sampling_seed(decoding.seed, "bench", one.item.id) for one in batch],
        )
        answers = [template.answer(ids) for ids in written]
        return [Outcome(text=answer.text, ended=answer.finish_reason == "stop") for answer in answers]


class RewardScorer:
    """The reward of each choice."""

    def __init__(self, contestant: Contestant, settings: ScoringSettings) -> None:
        if contestant.spec is None:
            raise ModelError(f"{contestant.source}: is no reward model")
        self._model = load_reward_model(contestant.spec, settings.precision, settings.device)
        self.limit: int | None = _limit(settings.cutoff_len, self._model.trained_length)
        self.settings: Mapping[str, Any] | None = _kept_under("rewards", self._model.identity, settings)

    def prepare(self, items: Sequence[Item]) -> list[Prepared | Dropped]:
        return _prepared(items, chat_groups(items, self._model.template, int(self.limit or 0)))

    def score(self, batch: Sequence[Prepared]) -> list[Outcome]:
        return [Outcome(tuple(rewards)) for rewards in self._model.score(_groups_of(batch))]


class JudgeScorer:
    """A judge's share of wins of the first of two choices over both orders, and of the second.

    An item has no outcome if one of its two verdicts cannot be read.
    """

    limit: int | None = None

    def __init__(self, contestant: Contestant) -> None:
        self._judge = load_judge(contestant.source, key="MODEL")
        self.settings: Mapping[str, Any] | None = {"kind": "judge", "judge": contestant.source}

    def prepare(self, items: Sequence[Item]) -> list[Prepared | Dropped]:
        return [
            Prepared(item, None, "\x1e".join([*(message.content for message in item.prompt), *item.choices]))
            for item in items
        ]

    def score(self, batch: Sequence[Prepared]) -> list[Outcome | Dropped]:
        prompts = [one.item.prompt for one in batch]
        first, second = ([one.item.choices[side] for one in batch] for side in (0, 1))
        found: list[Outcome | Dropped] = []
        verdicts = zip(self._judge.compare(prompts, first, second), self._judge.compare(prompts, second, first))
        for one, (ahead, behind) in zip(batch, verdicts, strict=True):
            if ahead.outcome not in LEFT_SHARE or behind.outcome not in LEFT_SHARE:
                where = one.item.where
                found.append(Dropped(one.item.id, "unparsed", f"{where}: the judge's verdict cannot be read"))
                continue
            share = (LEFT_SHARE[ahead.outcome] + 1 - LEFT_SHARE[behind.outcome]) / 2
            found.append(Outcome((share, 1 - share)))
        return found


def _kept_under(kind: str, identity: str | None, settings: ScoringSettings) -> dict[str, Any] | None:
    if identity is None:
        return None
    return {"kind": kind, "identity": identity, "precision": settings.precision.name}


class KeptOutcomes:
    """A file with one line for each batch of items.

    A line is found by the hash of all that determines its outcomes: the model's weights, the precision, the decoding
    and the tokens of every item of the batch. Another model, prompt, template or batch does not find it. A batch is
    kept whole, because the rounding of a score may depend on the rows beside it.

    Args:
        path: the file; None keeps outcomes in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, list[Outcome]] = {}
        if path is not None and path.is_file():
            for row in read_jsonl(path):
                try:
                    self._found[row["key"]] = [
                        Outcome(tuple(one["scores"]), tuple(one["tokens"]), one["text"], one["ended"])
                        for one in row["outcomes"]
                    ]
                except (KeyError, TypeError) as error:
                    raise ArtifactError(f"{path}: is no file of kept scores; name another --output") from error

    def read(self, key: str) -> list[Outcome] | None:
        """The outcomes of a batch; None if they are not kept."""
        return self._found.get(key)

    def write(self, key: str, outcomes: Sequence[Outcome]) -> None:
        """Keep the outcomes of a batch; they survive a kill after this returns."""
        self._found[key] = list(outcomes)
        if self._path is not None:
            with JsonlWriter(self._path, sync=True) as file:
                rows = [
                    {"scores": one.scores, "tokens": one.tokens, "text": one.text, "ended": one.ended}
                    for one in outcomes
                ]
                file.write({"key": key, "outcomes": rows})


def outcomes_of(batch: Sequence[Prepared], scorer: Scorer, kept: KeptOutcomes) -> Sequence[Outcome | Dropped]:
    """The outcomes of a batch: kept ones, or new ones, which are kept unless one of them is missing."""
    if scorer.settings is None:
        return scorer.score(batch)
    key = json_hash({"settings": dict(scorer.settings), "contents": [one.content for one in batch]})
    found = kept.read(key)
    if found is not None:
        return found
    made = scorer.score(batch)
    complete = [outcome for outcome in made if isinstance(outcome, Outcome)]
    if len(complete) == len(made):
        kept.write(key, complete)
    return made
