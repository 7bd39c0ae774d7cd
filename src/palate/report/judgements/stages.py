"""What each stage is judged by: which curves should rise or fall, and the name of its held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palate.charts.text import number
from palate.report.contents import RunContents, is_number

ONLINE = frozenset({"ppo", "grpo"})
"""Stages that train on sampled answers. Their loss stays near 0, so it is not judged."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """The direction that a curve should take.

    Attributes:
        metric: the name in metrics.jsonl.
        label: the name on the page.
        should: +1 rise, −1 fall.
        advice: what to do when it goes the wrong way.
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
    "the chosen answers become less likely too; "
    "add pref_ftx: 0.1, use pref_loss: dpop, raise pref_beta, or train for fewer steps",
)
_REJECTED = Expectation(
    "rewards/rejected",
    "Reward of rejected",
    -1,
    "the rejected answers become more likely; check that chosen and rejected are not swapped or nearly equal",
)
_MARGIN = Expectation(
    "rewards/margins",
    "Margin",
    1,
    "the model learns the opposite of the labels; check that chosen and rejected are not swapped",
)
_ACCURACY = Expectation(
    "rewards/accuracies",
    "Accuracy of the margin",
    1,
    "the model ranks fewer pairs as labelled than before; check the labels, and lower learning_rate",
)
_LABELLED = Expectation(
    "rewards/accuracies",
    "Answers rewarded as labelled",
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
    # A reward model's rewards have an arbitrary offset: only their difference counts.
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
    """The run's stage; `dpo` if it is missing or unknown."""
    stage = str(contents.find("stage", "config.stage", default="dpo")).lower()
    return stage if stage in EXPECTED else "dpo"


def counted(stage: str, rows: Any, prompts: Any = None) -> str:
    """The number of held-out rows behind a figure: `120 held-out pairs of 60 prompts`, `16 held-out prompts`."""
    singular, plural = _NOUNS[stage]
    if not is_number(rows):
        return f"held-out {plural}"
    text = f"{number(rows)} held-out {singular if rows == 1 else plural}"
    if stage in ONLINE or not is_number(prompts):
        return text
    return f"{text} of {number(prompts)} prompt{'' if prompts == 1 else 's'}"


def nouns(stage: str) -> str:
    """The name of a stage's held-out rows: `pairs`, `answers`, `prompts`."""
    return _NOUNS[stage][1]
