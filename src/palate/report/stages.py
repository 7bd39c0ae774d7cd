"""What each stage is judged by: which curves should go where, and what its held-out rows are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palate.report.contents import RunContents
from palate.report.scales import number

ONLINE = frozenset({"ppo", "grpo"})
"""Stages that train on sampled answers: their loss is near 0 whatever the policy does, so it says nothing."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Where a curve should go.

    Attributes:
        metric: its name in metrics.jsonl.
        label: its name for people.
        should: +1 should rise, −1 should fall.
        advice: what to do when it goes the other way.
    """

    metric: str
    label: str
    should: Literal[-1, 1]
    advice: str


_LOWER_RATE = "lower learning_rate, train for fewer steps, or check the data"
_LOSS = Expectation("loss", "Loss", -1, _LOWER_RATE)
_LOSS_OF_PAIRS = Expectation(
    "loss", "Loss", -1, "lower learning_rate, or check the data: the labels may contradict each other"
)
_CHOSEN = Expectation(
    "rewards/chosen",
    "Reward of chosen",
    1,
    "the model is moving away from the good answers too; "
    "add pref_ftx: 0.1, use pref_loss: dpop, raise pref_beta, or train for fewer steps",
)
_REJECTED = Expectation(
    "rewards/rejected",
    "Reward of rejected",
    -1,
    "the model is learning the worse answers as well; check that chosen and rejected are not swapped or nearly equal",
)
_MARGIN = Expectation(
    "rewards/margins",
    "Margin",
    1,
    "the model is learning the opposite of the labels; check that chosen and rejected are not swapped",
)
_ACCURACY = Expectation(
    "rewards/accuracies",
    "Accuracy of the margin",
    1,
    "the model ranks fewer pairs as labelled than before; check the labels, and lower learning_rate",
)
_LABELLED = Expectation(
    "rewards/accuracies",
    "Answers on the right side",
    1,
    "fewer answers are rewarded as labelled than before; check the labels, and lower learning_rate",
)
_ERROR = Expectation("absolute_error", "Error of the predicted score", -1, _LOWER_RATE)
_REWARD = Expectation(
    "reward",
    "Reward",
    1,
    "lower learning_rate, raise kl_coef, sample more answers to a prompt (num_generations), or check the reward",
)

EXPECTED: Mapping[str, tuple[Expectation, ...]] = {
    "sft": (_LOSS,),
    # A reward model's rewards have no zero: only their difference means something.
    "rm": (_LOSS_OF_PAIRS, _MARGIN, _ACCURACY, _ERROR),
    "dpo": (_LOSS_OF_PAIRS, _CHOSEN, _REJECTED, _MARGIN, _ACCURACY),
    "kto": (_LOSS, _CHOSEN, _REJECTED, _MARGIN, _LABELLED),
    "ppo": (_REWARD,),
    "grpo": (_REWARD,),
}
_NOUNS: Mapping[str, tuple[str, str]] = {
    "sft": ("answer", "answers"),
    "rm": ("pair", "pairs"),
    "dpo": ("pair", "pairs"),
    "kto": ("labelled answer", "labelled answers"),
    "ppo": ("prompt", "prompts"),
    "grpo": ("prompt", "prompts"),
}


def stage_of(contents: RunContents) -> str:
    """The run's stage; `dpo` where the run does not say one that is known."""
    stage = str(contents.find("stage", "config.stage", default="dpo")).lower()
    return stage if stage in EXPECTED else "dpo"


def counted(stage: str, rows: Any, prompts: Any = None) -> str:
    """How many held-out rows a figure rests on: `120 held-out pairs of 60 prompts`, `16 held-out prompts`."""
    one, many = _NOUNS.get(stage, _NOUNS["dpo"])
    if not isinstance(rows, int | float):
        return f"held-out {many}"
    text = f"{number(rows)} held-out {one if rows == 1 else many}"
    if stage in ONLINE or not isinstance(prompts, int | float):
        return text
    return f"{text} of {number(prompts)} prompt{'' if prompts == 1 else 's'}"


def nouns(stage: str) -> str:
    """What the held-out rows of a stage are: `pairs`, `answers`, `prompts`."""
    return _NOUNS.get(stage, _NOUNS["dpo"])[1]
