"""What a model still knows: TruthfulQA's multiple choice (https://arxiv.org/abs/2109.07958) and neutral text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _cells import Record

from palate.artifacts import read_json
from palate.errors import DataError
from palate.evaluation.subject import Subject
from palate.models.generation.decoding import sampling_seed
from palate.records import Message, Ranking
from palate.stats import mcnemar_midp, mean_interval, newcombe_paired, wilson
from palate.text.encode import encode_records
from palate.text.groups import EncodedCompletion, EncodedGroup

_WINDOW = 256


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its answers.

    Attributes:
        text: of the question.
        mc1: answer → 1 for the one that is right, 0 for the others.
        mc2: the same with several right ones.
    """

    text: str
    mc1: Mapping[str, int]
    mc2: Mapping[str, int]

    @property
    def choices(self) -> list[str]:
        """Every answer once."""
        return list(dict.fromkeys([*self.mc1, *self.mc2]))


def read_questions(path: Path, count: int, seed: int) -> tuple[list[Question], int]:
    """`count` questions drawn by the seed, in the order drawn, and how many there are.

    Raises:
        DataError: the file is not TruthfulQA's multiple choice.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not all({"question", "mc1_targets", "mc2_targets"} <= set(row) for row in rows):
        raise DataError(f"{path}: rows need question, mc1_targets and mc2_targets")
    questions = [Question(row["question"], row["mc1_targets"], row["mc2_targets"]) for row in rows]
    return sorted(questions, key=lambda one: sampling_seed(seed, one.text))[:count], len(questions)


def mc_scores(logps: Mapping[str, float], question: Question) -> tuple[float, float]:
    """(MC1, MC2) of one question.

    MC1 is 1 where the right answer is likelier than every wrong one; MC2 is the share of the answers' probability,
    normalised over them, that the right ones have.

    Args:
        logps: answer → Σ log π of its tokens given the question, in nats.
    """
    right = max(logps[choice] for choice, label in question.mc1.items() if label)
    wrong = max(logps[choice] for choice, label in question.mc1.items() if not label)
    highest = max(logps[choice] for choice in question.mc2)
    mass = {choice: math.exp(logps[choice] - highest) for choice in question.mc2}
    return float(right > wrong), sum(mass[choice] for choice, label in question.mc2.items() if label) / sum(
        mass.values()
    )


def multiple_choice(subject: Subject, questions: Sequence[Question]) -> list[list[float]]:
    """[MC1, MC2] of each question, asked through the chat template without examples, ends of turn counted."""
    rankings = [
        Ranking(
            id=str(place),
            prompt=(Message("user", question.text),),
            completions=tuple((Message("assistant", choice),) for choice in question.choices),
        )
        for place, question in enumerate(questions)
    ]
    encoded = encode_records(rankings, subject.template)
    if encoded.dropped:
        first = encoded.dropped[0]
        raise DataError(f"question {questions[int(first.id)].text!r} cannot be asked: {first.reason} {first.detail}")
    found = []
    for group, (sums, _) in zip(encoded.groups, subject.score(encoded.groups), strict=True):
        question = questions[int(group.id)]
        found.append(list(mc_scores(dict(zip(question.choices, sums, strict=True)), question)))
    return found


def neutral_losses(subject: Subject, text: str) -> list[list[float]]:
    """[−Σ log π in nats, tokens] of each paragraph, read as plain text: its first token is given, the rest foretold."""
    tokenizer = subject.template.tokenizer
    groups = []
    for paragraph in filter(None, map(str.strip, text.split("\n\n"))):
        ids = np.array(tokenizer(" ".join(paragraph.split()), add_special_tokens=False)["input_ids"], dtype=np.int32)
        for start in range(0, len(ids) - 1, _WINDOW):
            part = ids[start : start + _WINDOW + 1]
            told = EncodedCompletion(part[1:], np.ones(len(part) - 1, dtype=np.bool_))
            groups.append(EncodedGroup(str(len(groups)), part[:1], (told,)))
    return [[-sums[0], float(tokens[0])] for sums, tokens in subject.score(groups)]


def perplexity(losses: Sequence[Sequence[float]]) -> float:
    """exp of the mean loss of a token."""
    return math.exp(sum(loss for loss, _ in losses) / sum(tokens for _, tokens in losses))


def knowledge(choice: Sequence[Sequence[float]], losses: Sequence[Sequence[float]]) -> Record:
    """What one model knows, with intervals."""
    n = len(choice)
    return {
        "n": n,
        "mc1": asdict(wilson(sum(one for one, _ in choice), n)),
        "mc2": asdict(mean_interval([two for _, two in choice])),
        "perplexity": perplexity(losses),
        "neutral_tokens": sum(tokens for _, tokens in losses),
    }


def knowledge_kept(before: Mapping[str, Any], after: Mapping[str, Any]) -> Record:
    """A model against its reference on the same questions and text; each has `choice` and `neutral`.

    Returns:
        `mc1`: difference of the shares (Newcombe's paired interval), with mid-p McNemar `mc1_p` and the counts of
        questions lost and won; `mc2`: mean difference; `loss`: rise of the loss of a neutral token, nats, a mean over
        paragraphs.
    """
    pairs = [(bool(old[0]), bool(new[0])) for old, new in zip(before["choice"], after["choice"], strict=True)]
    both, won, lost = pairs.count((True, True)), pairs.count((False, True)), pairs.count((True, False))
    rises = [(new[0] - old[0]) / new[1] for old, new in zip(before["neutral"], after["neutral"], strict=True) if new[1]]
    return {
        "mc1": asdict(newcombe_paired(both, won, lost, len(pairs) - both - won - lost)),
        "mc1_p": mcnemar_midp(won, lost),
        "won": won,
        "lost": lost,
        "mc2": asdict(
            mean_interval([new[1] - old[1] for old, new in zip(before["choice"], after["choice"], strict=True)])
        ),
        "loss": asdict(mean_interval(rises)),
    }
