"""The rows of a run as `palate plan` counts them: their number, and the lengths of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from palate.capacity.job import RowTokens, Workload
from palate.config.run import RunConfig
from palate.config.stages.rollout import RolloutFields
from palate.data.stream import RecordStream
from palate.errors import DataError, ModelError
from palate.models.loading.spec import starting_model
from palate.records import DatasetRequest, Messages, Record, completions_of
from palate.text.encode import encode_records
from palate.text.prompts import encode_prompts
from palate.text.template import Template
from palate.training.methods import build_method

_SAMPLE = 1000  # records whose tokens are counted
_CHARACTERS = 4  # of a token, without a tokenizer


def workload_of(config: RunConfig) -> Workload:
    """Read the run's training data; count tokens with the model's tokenizer, or a quarter of the characters without.

    Args:
        config: a resolved run; answers that it samples are taken to have `max_new_tokens` each.

    Raises:
        DataError: the data cannot be read.
    """
    request = DatasetRequest.of_run(config.resolved(), config.dataset)
    kind = build_method(config).traits.record
    try:
        stream = RecordStream(request, kind, temperature=config.mix_temperature, caps=config.mix_caps)
        sample = list(islice(stream.read(held_out=False), 0, None, -(-len(stream) // _SAMPLE)))
    except DataError as error:
        raise DataError(f"{error}; or give --rows, --prompt-tokens and --answer-tokens instead") from error
    try:
        spec = starting_model(config.resolved())
        lengths, source = _tokens(config, sample, spec.chat_template(spec.tokenizer())), "tokens counted"
    except ModelError:
        lengths = _characters(sample, config.cutoff_len)
        source = f"tokens taken as {_CHARACTERS} characters (no tokenizer here)"
    if isinstance(config, RolloutFields):
        lengths = [
            RowTokens(row.prompt, (config.max_new_tokens,) * getattr(config, "num_generations", 1)) for row in lengths
        ]
    held = config.val_size if config.val_size >= 1 else config.val_size * len(stream)
    return Workload(max(1, len(stream) - round(held)), lengths, f"{source} in {len(lengths):,}")


def _tokens(config: RunConfig, records: Sequence[Any], template: Template) -> list[RowTokens]:
    if isinstance(config, RolloutFields):
        limit = config.cutoff_len - config.max_new_tokens
        groups = encode_prompts(records, template, limit=limit, truncation=config.truncation).groups
    else:
        groups = encode_records(records, template, cutoff_len=config.cutoff_len, truncation=config.truncation).groups
    if not groups:
        raise DataError(f"none of {len(records)} rows has a use in cutoff_len: {config.cutoff_len}; set a larger one")
    return [RowTokens(len(group.prompt_ids), tuple(len(one.ids) for one in group.completions)) for group in groups]


def _characters(records: Sequence[Any], cutoff: int) -> list[RowTokens]:
    def tokens(messages: Messages) -> int:
        return min(-(-sum(len(message.text) for message in messages) // _CHARACTERS), cutoff)

    found = []
    for record in records:
        answers = () if type(record) is Record else tuple(map(tokens, completions_of(record)))
        found.append(RowTokens(min(tokens(record.prompt), cutoff - max(answers, default=0)), answers))
    return found
