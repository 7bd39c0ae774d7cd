"""What online stages have: answers that the policy samples while it trains, and what rewards them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from palate.config.base import Fields
from palate.config.functions import names_function
from palate.config.values import NamedOrPath, PathText


class RewardTerm(Fields):
    """One of the rewards, with its weight.

    Attributes:
        reward: `module:function`, `file.py:function`, `lexicon:…`, `length:…`, or a reward model's folder.
        judge: a judge instead; the reward is the share of the other answers to the prompt that an answer beats.
        weight: of this term in the sum; negative for what is unwanted.
    """

    reward: NamedOrPath | None = Field(None, min_length=1)
    judge: NamedOrPath | None = Field(None, min_length=1)
    weight: float = 1.0

    @model_validator(mode="after")
    def _one_of_both(self) -> Any:
        if (self.reward is None) == (self.judge is None):
            raise ValueError("each of rewards names either a reward or a judge, and a weight")
        return self

    @property
    def name(self) -> str:
        """What metrics call it."""
        return self.reward or self.judge or ""


def _terms(value: Any) -> Any:
    """`rewards: runs/rm` and `rewards: [my:score]` are lists of terms of weight 1."""
    listed = value if isinstance(value, list) else [value]
    return [{"reward": one} if isinstance(one, str) else one for one in listed]


Rewards: TypeAlias = Annotated[list[RewardTerm], BeforeValidator(_terms), Field(min_length=1)]


class RolloutFields(Fields):
    """What is sampled, and how it is rewarded."""

    rewards: Rewards = Field(
        description="What rewards an answer: module:function, file.py:function, lexicon:…, length:…, a reward model's "
        "folder; or a list of {reward: …, weight: …} and {judge: …, weight: …}, which are added."
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest sampled answer, in tokens.")
    temperature: float = Field(
        1.0, gt=0, description="Of the sampling; 1 samples from the policy itself, which the methods assume."
    )
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus that is sampled from.")
    missing_eos_penalty: float = Field(
        0.0, ge=0, description="Taken off the reward of an answer that did not end within max_new_tokens."
    )
    ref_model: PathText | None = Field(
        None,
        description="Folder or hub id of the model that the KL is taken to.",
        json_schema_extra={"default": "the policy as it starts"},
    )
    rollout_url: str | None = Field(
        None,
        description="OpenAI-compatible engine that samples the answers, up to /v1.",
        json_schema_extra={"default": "the policy samples, in this process"},
    )
    rollout_model: str | None = Field(
        None, description="The engine's name for the policy.", json_schema_extra={"default": "none"}
    )
    rollout_sync: NamedOrPath | None = Field(
        None,
        description="How the engine gets the policy's weights before each batch of answers: lora (vLLM's run-time "
        "adapters); module:function or file.py:function, called with a folder and rollout_model; or none, where it "
        "goes on with its own.",
        json_schema_extra={"default": "none; needed with rollout_url"},
    )
    cliprange: float = Field(0.2, gt=0, lt=1, description="How far the probability ratio moves the loss, up and down.")

    @model_validator(mode="after")
    def _rewards_have_names_of_their_own(self) -> Any:
        names = [term.name for term in self.rewards]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"rewards names {twice} twice; give it once, with the sum of the weights")
        return self

    @model_validator(mode="after")
    def _an_engine_is_told_whole(self) -> Any:
        about = {"rollout_model": self.rollout_model, "rollout_sync": self.rollout_sync}
        if self.rollout_url is None:
            idle = next((key for key, value in about.items() if value is not None), None)
            if idle is not None:
                raise ValueError(f"{idle} has no effect without rollout_url; add it, or remove the key")
            return self
        missing = next((key for key, value in about.items() if value is None), None)
        if missing is not None:
            raise ValueError(f"rollout_url needs {missing} beside it ({type(self).model_fields[missing].description})")
        if not self.rollout_url.startswith(("http://", "https://")):
            raise ValueError(f"rollout_url: {self.rollout_url} must begin with http:// or https://")
        if self.rollout_sync == "lora" and getattr(self, "finetuning_type", "lora") != "lora":
            raise ValueError("rollout_sync: lora sends an adapter; set finetuning_type: lora, or name a function")
        if self.rollout_sync not in ("lora", "none") and not names_function(str(self.rollout_sync)):
            raise ValueError(
                f"rollout_sync: {self.rollout_sync} is not lora, none, module:function or file.py:function"
            )
        return self
