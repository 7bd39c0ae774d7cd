"""A reward model: the language model with a scalar head, read at the last trained token of each completion.

It is transformers' own sequence-classification model of the architecture, so a saved one works there as it is. Here its
forward also scores packed rows, with tree attention.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from palate.errors import ModelError
from palate.models.attention.rotary import forward_by_length, length_rule
from palate.models.attention.tree import TREE
from palate.models.precision import FP32, Precision
from palate.models.probe.limits import token_rows
from palate.models.probe.trial import Probe, Trial, probing
from palate.models.scoring.head import Head
from palate.models.scoring.trunk import TrunkRun
from palate.text.batch import Batch, Layout


class Rewards(NamedTuple):
    """Rewards of completions, float32 [C], in the order of `Batch.group_of`; router logits as in `TokenLogps`."""

    rewards: torch.Tensor
    router_logits: tuple[torch.Tensor, ...] | None = None


def end_index(batch: Batch) -> torch.Tensor:
    """The index of each completion's last trained token in the flattened input_ids, int64 [C]."""
    ends: list[int] = []
    if batch.layout is not None:
        for group, span in zip(batch.groups, batch.layout.spans, strict=True):
            start = span.start + span.prompt
            for completion in group.completions:
                ends.append(start + int(np.flatnonzero(completion.trained)[-1]))
                start += len(completion.ids)
    else:
        width = batch.input_ids.shape[1]
        rows = ((group, completion) for group in batch.groups for completion in group.completions)
        for row, (group, completion) in enumerate(rows):
            last = len(group.prompt_ids) + int(np.flatnonzero(completion.trained)[-1])
            ends.append(row * width + last)
    return torch.tensor(ends, device=batch.input_ids.device)


def install_rewards(model: Any) -> None:
    """Give a sequence-classification model the scoring forward. Calls without `end_index` reach the stock forward.

    Raises:
        ModelError: the model has no linear score head on the last token.
    """
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise ModelError(f"{type(model).__name__} has no linear score head on the last token; take a causal model")
    if not hasattr(model, "stock_forward"):
        model.stock_forward = model.forward
        model.length_rule = length_rule(model.config)
    model.forward = types.MethodType(_reward_forward, model)


def probe_rewards(
    model: Any,
    *,
    want_packed: bool = True,
    kernels: Sequence[str] = (TREE,),
    precision: Precision = FP32,
    longest: int | None = None,
    gradients: bool = True,
) -> Probe:
    """As `probe.probe`, for the states that rewards are read from; leaves the scoring forward installed."""
    install_rewards(model)
    scale = 1.0

    def stock(batch: Batch) -> torch.Tensor:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
        if trial.groups.beyond is not None:
            inputs["position_ids"] = batch.position_ids
        states: torch.Tensor = model.base_model(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)
        return states[end_index(batch)].float() / scale

    def score(batch: Batch) -> torch.Tensor:
        return _states(model, batch) / scale

    with probing(model):
        trial = Trial(model, longest, gradients=gradients)
        with torch.no_grad():
            # The scale of hidden states differs from model to model, unlike that of log-probabilities.
            scale = float(
                _states(model, trial.groups.padded(next(model.parameters()).device)).abs().max().clamp(min=1e-6)
            )
        trial.measure(stock)
        trial.settle(score, lambda _: None, [Head()])
        return trial.conclude(score, Head(), kernels if want_packed else (), precision)


def give_pad_token(model: Any, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> None:
    """Let model and tokenizer pad with a token that ends no answer.

    transformers reads the score at the last token that is not padding. If the padding token is the end-of-turn token,
    as in many chat models, that would be the token before the trained one.
    """
    pad_id: int | None = tokenizer.pad_token_id
    rows = token_rows(model)  # a tokenizer may have tokens that the embedding lacks
    if pad_id is None or pad_id in ends or pad_id >= rows:
        special = [token for token in tokenizer.all_special_ids if token not in ends and token < rows]
        pad_id = special[0] if special else max(set(range(min(rows, len(tokenizer)))) - set(ends))
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_id)
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = pad_id


def _reward_forward(
    self: Any,
    input_ids: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    layout: Layout | None = None,
    target_index: torch.Tensor | None = None,
    target_ids: torch.Tensor | None = None,
    end_index: torch.Tensor | None = None,
    trunk: TrunkRun | None = None,
    labels: torch.Tensor | None = None,
    return_dict: bool | None = None,
    routers: bool = False,
    **kwargs: Any,
) -> Any:
    """Rewards at `end_index`, or the stock forward without it."""
    del target_index, target_ids, return_dict  # arguments of a language model's forward, and of PEFT's
    inputs: dict[str, Any] = {"input_ids": input_ids, "position_ids": position_ids, "attention_mask": attention_mask}
    if end_index is None:
        return self.stock_forward(**inputs, labels=labels, **kwargs)
    given = {name: value for name, value in kwargs.items() if value is not None}
    if layout is not None:
        given["layout"] = layout
    with trunk.installed() if trunk is not None else contextlib.nullcontext():
        routed = None
        if routers:
            output = self.base_model(**inputs, **given, use_cache=False, output_router_logits=True)
            hidden, routed = output.last_hidden_state.flatten(0, 1)[end_index], tuple(output.router_logits)
        else:
            hidden = _states_at(self, {**inputs, **given}, end_index)
    # In float32: the head is cheap, and in bf16 the rewards of similar answers would be equal.
    with torch.autocast(hidden.device.type, enabled=False):
        return Rewards(self.score(hidden.float()).squeeze(-1), routed)


def _states_at(model: Any, inputs: dict[str, Any], index: torch.Tensor) -> torch.Tensor:
    """Hidden states [C, H] at the index [C] of the flattened batch."""
    base = model.base_model
    return forward_by_length(model, lambda **given: base(**given, use_cache=False).last_hidden_state, inputs).flatten(
        0, 1
    )[index]


def _states(model: Any, batch: Batch) -> torch.Tensor:
    """Hidden states at the ends of the completions, [C, H]."""
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": batch.attention_mask,
    }
    if batch.layout is not None:
        inputs["layout"] = batch.layout
    return _states_at(model, inputs, end_index(batch)).float()
