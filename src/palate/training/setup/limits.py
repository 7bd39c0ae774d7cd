"""The model's limits on positions and token ids, checked against config and rows before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.config.run import RunConfig
from palate.config.stages.health import HealthFields
from palate.config.stages.preference import SampleFields
from palate.config.stages.rollout import RolloutFields
from palate.errors import ConfigError, DataError
from palate.models.probe.limits import position_limit, token_rows, trained_length
from palate.models.upstream import base_of
from palate.records import Record
from palate.text.group_file import JoinedGroups, lengths_of
from palate.text.groups import EncodedGroup
from palate.text.prompts import prompt_ids
from palate.text.template import Template
from palate.training.setup.dataset import RunData


def longest_scored(config: RunConfig, data: RunData) -> int:
    """Tokens of the longest sequence that the run may score."""
    rows = [int(lengths_of(groups).longest.max(initial=0)) for groups in (data.train, data.evaluation)]
    sampled = 1 + config.health_max_new_tokens if isinstance(config, HealthFields) else 0
    return max([config.cutoff_len, sampled, *rows])


def health_prompts(
    config: HealthFields, cutoff_len: int, template: Template, prompts: Sequence[Record]
) -> list[list[int]]:
    """Token ids of the prompts that health samples answers to, shortened so that the answer fits into `cutoff_len`."""
    limit = max(1, cutoff_len - config.health_max_new_tokens)
    return [prompt_ids(one, template)[-limit:] for one in prompts[: config.health_prompts]]


def check_limits(config: RunConfig, model: Any, template: Template, data: RunData) -> list[str]:
    """Lines about limits that are close; a limit that is exceeded is an error.

    Args:
        config: a resolved run.
        model: the policy, with adapters and new tokens.
        template: its chat template and tokenizer.
        data: of the run.

    Raises:
        ConfigError: a sequence is longer than the model's table of positions.
        DataError: a row uses a token id that the model has no embedding for.
    """
    base = base_of(model)
    return [*_check_positions(config, base, template, data), *_check_tokens(base, template, data)]


def _check_positions(config: RunConfig, model: Any, template: Template, data: RunData) -> list[str]:
    groups = JoinedGroups(data.train, data.evaluation)
    lengths = np.concatenate([lengths_of(part).longest for part in (data.train, data.evaluation)])
    longest = groups[int(lengths.argmax())] if len(lengths) else None
    found = 0 if longest is None else longest.longest_row
    limit = position_limit(model)
    if limit is None:
        made_for = trained_length(model)
        if made_for is not None and longest is not None and found > made_for:
            return [
                f"warning: row {longest.id} has {found} tokens, but the model was trained for {made_for} "
                f"(max_position_embeddings); cutoff_len: {made_for} keeps rows within that"
            ]
        return []
    name = config.model_name_or_path
    if longest is not None and found > limit:
        raise ConfigError(
            f"cutoff_len: {config.cutoff_len} is too long for {name}, whose table of positions ends at {limit}: row "
            f"{longest.id} has {found} tokens; set cutoff_len: {limit}"
        )
    for key, tokens, prompt in _generated(config, template, data):
        if prompt + tokens > limit:
            raise ConfigError(
                f"{key}: {tokens} after a prompt of {prompt} tokens is too long for {name}, whose table of positions "
                f"ends at {limit}; set {key}: {max(1, limit - prompt)} or a smaller cutoff_len"
            )
    if config.cutoff_len > limit:
        return [f"note: cutoff_len {config.cutoff_len} is beyond the model's {limit} positions; no row is longer"]
    return []


def _generated(config: RunConfig, template: Template, data: RunData) -> list[tuple[str, int, int]]:
    """(config key, new tokens, tokens of the longest prompt) of each kind of answer that the run generates."""
    found: list[tuple[str, int, int]] = []
    if isinstance(config, RolloutFields):
        prompts = [len(group.prompt_ids) for group in (*data.train, *data.evaluation)]
        found.append(("max_new_tokens", config.max_new_tokens, max(prompts, default=0)))
    if isinstance(config, SampleFields) and config.sample_prompts:
        lengths = [len(prompt_ids(one, template)) for one in data.prompts[: config.sample_prompts]]
        found.append(("sample_max_new_tokens", config.sample_max_new_tokens, max(lengths, default=0)))
    if isinstance(config, HealthFields) and config.health != "off" and data.evaluation:
        lengths = [len(ids) for ids in health_prompts(config, config.cutoff_len, template, data.prompts)]
        found.append(("health_max_new_tokens", config.health_max_new_tokens, max(lengths, default=0)))
    return found


def _check_tokens(model: Any, template: Template, data: RunData) -> list[str]:
    rows, known = token_rows(model), len(template.tokenizer)
    if known <= rows:
        return []
    for group in JoinedGroups(data.train, data.evaluation):
        highest = _highest_id(group)
        if highest >= rows:
            text = template.tokenizer.convert_ids_to_tokens(highest)
            raise DataError(
                f"row {group.id}: token {text!r} has id {highest}, but the model's embedding has {rows} rows (the "
                f"tokenizer has {known} tokens); use the tokenizer that belongs to the model, or resize_vocab: "
                "true"
            )
    return [f"note: the tokenizer has {known} tokens, the model's embedding {rows} rows; no row uses the others"]


def _highest_id(group: EncodedGroup) -> int:
    parts = [group.prompt_ids, *(one.ids for one in group.completions)]
    return max((int(np.max(part)) for part in parts if len(part)), default=0)
