"""The keys of answers that the policy samples during training, and of their rewards."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from palate.config.base import Fields, setting
from palate.config.functions import names_function
from palate.config.values import NamedOrPath, PathText


class RewardTerm(Fields):
    """One of the rewards, with its weight.

    Attributes:
        reward: `module:function`, `file.py:function`, `lexicon:…`, `length:…`, or a reward model's folder.
        judge: a judge instead; the reward is the share of the other answers to the prompt that an answer beats.
        weight: its weight in the sum; negative for a penalty.
    """

    reward: NamedOrPath | None = Field(None, min_length=1)
    judge: NamedOrPath | None = Field(None, min_length=1)
    weight: float = 1.0

    @model_validator(mode="after")
    def _check_source(self) -> Any:
        if (self.reward is None) == (self.judge is None):
            raise ValueError("each of rewards names either a reward or a judge, and a weight")
        return self

    @property
    def name(self) -> str:
        """Its name in metrics."""
        return self.reward or self.judge or ""


_JUDGES = ("openai:", "jury:")
"""What only judges' names begin with."""


def _terms(value: Any) -> Any:
    """`rewards: runs/rm`, `rewards: [my:score]` and `rewards: openai:MODEL` are lists of terms of weight 1."""
    listed = value if isinstance(value, list) else [value]
    return [
        {"judge" if term.startswith(_JUDGES) else "reward": term} if isinstance(term, str) else term for term in listed
    ]


Rewards: TypeAlias = Annotated[
    list[RewardTerm],
    BeforeValidator(_terms, json_schema_input_type=str | list[str | RewardTerm]),
    Field(min_length=1),
]


def check_engine(fields: Fields, prefix: str, *, adapters: bool) -> None:
    """Check the keys of an engine that samples instead of the policy: `…_url`, `…_model` and `…_sync`.

    Raises:
        ValueError: one is missing, has no effect or a wrong form. `adapters` allows `…_sync: lora`.
    """
    url, model, sync = (getattr(fields, f"{prefix}_{name}") for name in ("url", "model", "sync"))
    for key, value in ((f"{prefix}_model", model), (f"{prefix}_sync", sync)):
        if url is None and value is not None:
            raise ValueError(f"{key} has no effect without {prefix}_url; add it, or remove the key")
        if url is not None and value is None:
            meaning = type(fields).model_fields[key].description
            raise ValueError(f"{prefix}_url needs {key} as well ({meaning})")
    if url is not None and not url.startswith(("http://", "https://")):
        raise ValueError(f"{prefix}_url: {url} must begin with http:// or https://")
    words = ("lora", "none") if adapters else ("none",)
    if sync is not None and sync not in words and not names_function(sync):
        raise ValueError(f"{prefix}_sync: {sync} is not {', '.join(words)}, module:function or file.py:function")


class RolloutFields(Fields):
    """Sampled answers: sampling during training, and rewards."""

    rewards: Rewards = setting(
        ...,
        "Rewards of an answer: module:function, file.py:function, lexicon:…, length:…, a reward model's folder, "
        "openai:MODEL or jury:…; or a list of {reward: …, weight: …} and {judge: …, weight: …}, which are added.",
    )
    max_new_tokens: int = setting(128, "Maximum length of a sampled answer, in tokens.", ge=1)
    temperature: float = setting(
        1.0, "Sampling temperature. The methods assume 1, the policy's own distribution.", gt=0
    )
    top_p: float = setting(1.0, "Nucleus (top-p) sampling.", gt=0, le=1)
    missing_eos_penalty: float = setting(
        0.0, "Penalty on the reward of an answer that did not end within max_new_tokens.", ge=0
    )
    ref_model: PathText | None = setting(
        None, "Folder or hub id of the reference model for the KL.", shown="the initial policy"
    )
    rollout_url: str | None = setting(
        None,
        "URL of an OpenAI-compatible engine that samples the answers, up to /v1; several as URL,URL=2.",
        shown="palate samples in this process",
    )
    rollout_model: str | None = setting(None, "The engine's name for the policy.", shown="none")
    rollout_sync: NamedOrPath | None = setting(
        None,
        "How the engine gets the policy's weights before each batch of answers: lora (vLLM's run-time "
        "adapters); module:function or file.py:function, called with a folder and rollout_model; or none, which "
        "leaves the engine's weights as they are.",
        shown="none; needed with rollout_url",
    )
    cliprange: float = setting(0.2, "Clip range of the probability ratio.", gt=0, lt=1)

    @model_validator(mode="after")
    def _check_reward_names(self) -> Any:
        names = [term.name for term in self.rewards]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"rewards names {twice} twice; give it once, with the sum of the weights")
        return self

    @model_validator(mode="after")
    def _check_engine(self) -> Any:
        check_engine(self, "rollout", adapters=True)
        if self.rollout_sync == "lora" and getattr(self, "finetuning_type", "lora") != "lora":
            raise ValueError("rollout_sync: lora sends an adapter; set finetuning_type: lora, or name a function")
        return self
