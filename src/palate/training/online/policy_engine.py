"""An engine that samples instead of the policy: it gets the policy's weights, and its texts become token ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.artifacts import atomic_folder
from palate.config.functions import load_function
from palate.config.run import GrpoConfig, PpoConfig
from palate.errors import ConfigError
from palate.models.generation.decoding import Decoding
from palate.models.generation.endpoints.engine import Engine
from palate.models.loading.save import save_pretrained
from palate.records import Record
from palate.text.template import Template

FOLDER = ".rollout-policy"
"""Within the run directory: the policy as it was saved for the engine."""


@dataclass(frozen=True, slots=True)
class PolicyEngine:
    """Samples answers from an engine, as token ids.

    Attributes:
        engine: its name is the engine's name for the policy.
        sync: makes the engine serve the model or adapter in a folder; None if its model stays the same.
        folder: where the policy is saved for the engine.
        template: of prompts and answers.
    """

    engine: Engine
    sync: Callable[[Path], None] | None
    folder: Path
    template: Template

    def follow(self, policy: Any) -> None:
        """Give the engine the current policy; called by the main process while the others wait."""
        if self.sync is None:
            return
        with atomic_folder(self.folder) as scratch:
            save_pretrained(policy, scratch)
            self.template.tokenizer.save_pretrained(scratch)
        self.sync(self.folder)

    def answers(self, rows: Sequence[Record], decoding: Decoding, seeds: Sequence[int]) -> list[list[int]]:
        """The token ids of one answer to each row's prompt, from 1 to `max_new_tokens` of them."""
        found = self.engine.answers([row.prompt for row in rows], decoding, seeds, tools=[row.tools for row in rows])
        all_ids = []
        for row, answer in zip(rows, found, strict=True):
            ended = answer.finish_reason != "length"
            ids = self.template.answer_ids(row.prompt, answer.text, ended=ended, tools=row.tools)
            # An empty answer has at least the token that ends it.
            ids = ids or self.template.answer_ids(row.prompt, "", ended=True, tools=row.tools)
            all_ids.append(ids[: decoding.max_new_tokens])
        return all_ids


def policy_engine(config: PpoConfig | GrpoConfig, run: Path, template: Template) -> PolicyEngine | None:
    """The engine of a config; None if the policy itself samples.

    Raises:
        ConfigError: `rollout_sync` names a function that does not exist, or sends only a part of the policy.
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

    return PolicyEngine(engine, sync, run / FOLDER, template)
