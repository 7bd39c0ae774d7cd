"""An engine that samples in the policy's place: it is given the policy's weights, asked, and its texts become ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from palate.artifacts import atomic_folder
from palate.config.functions import load_function
from palate.config.run import GrpoConfig, PpoConfig
from palate.errors import ConfigError
from palate.models.generation.engine import Engine
from palate.models.generation.generate import Decoding
from palate.models.save import save_pretrained
from palate.records import Answer, Messages
from palate.text.template import Template

FOLDER = ".rollout-policy"
"""Within the run directory: the policy as the engine has it."""


class PolicyEngine:
    """Answers as `models.generation.generate.generate` would, from somewhere else.

    Args:
        engine: its name is the engine's name for the policy.
        sync: makes the engine serve what lies in a folder; None where its model stays what it is.
        folder: where the policy is saved for it.
        tokenizer: saved beside a whole model.
    """

    def __init__(
        self,
        engine: Engine,
        sync: Callable[[Path], None] | None,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        self._engine = engine
        self._sync = sync
        self._folder = folder
        self._tokenizer = tokenizer

    def follow(self, policy: Any) -> None:
        """Give the engine the policy as it is; called by the main process, the others wait."""
        if self._sync is None:
            return
        with atomic_folder(self._folder) as scratch:
            save_pretrained(policy, scratch)
            self._tokenizer.save_pretrained(scratch)
        self._sync(self._folder)

    def answers(
        self,
        prompts: Sequence[Messages],
        template: Template,
        decoding: Decoding,
        seeds: Sequence[int],
        *,
        tools: Sequence[str | None] | None = None,
    ) -> list[list[int]]:
        """The token ids of one answer to each conversation, at most `max_new_tokens` of them."""
        tools = tools or [None] * len(prompts)
        found = self._engine.answers(prompts, decoding, seeds, tools=tools)
        longest = decoding.max_new_tokens
        return [
            _ids(prompt, answer, template, offered)[:longest]
            for prompt, answer, offered in zip(prompts, found, tools, strict=True)
        ]


def policy_engine(config: PpoConfig | GrpoConfig, run: Path, tokenizer: PreTrainedTokenizerBase) -> PolicyEngine | None:
    """What the config names; None where the policy itself samples.

    Raises:
        ConfigError: `rollout_sync` names a function that is not there.
    """
    if config.rollout_url is None:
        return None
    if config.rollout_sync == "lora" and config.merged_adapters:
        raise ConfigError(
            f"rollout_sync: lora gives the engine the new adapter only, but {', '.join(config.merged_adapters)} is "
            "merged into the model before training; let the engine serve a model with it merged, and name that model "
            "as model_name_or_path"
        )
    name = str(config.rollout_model)
    engine = Engine(config.rollout_url, name)
    sync: Callable[[Path], None] | None = None
    if config.rollout_sync == "lora":
        sync = engine.load_adapter
    elif config.rollout_sync != "none":
        function = load_function(str(config.rollout_sync), "rollout_sync")

        def sync(folder: Path) -> None:
            function(str(folder.resolve()), name)

    return PolicyEngine(engine, sync, run / FOLDER, tokenizer)


def _ids(prompt: Messages, answer: Answer, template: Template, tools: str | None) -> list[int]:
    """At least one token, also of an empty answer: the one that ends it."""
    ended = answer.finish_reason != "length"
    ids = template.answer_ids(prompt, answer.text, ended=ended, tools=tools)
    return ids or template.answer_ids(prompt, "", ended=True, tools=tools)
