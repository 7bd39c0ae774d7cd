"""A probe at load: does this architecture compute the same in a packed row as in separate rows?

It scores a few random tokens both ways, because that works for every architecture, and compares values and gradients of
sequences within and beyond the lengths at which a model changes its computation (`models.probe.group`). Differences are
relative to the effect of another prompt: if a model's outputs are nearly uniform, a leak between completions is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from palate.models.attention.tree import TREE
from palate.models.precision import FP32, Precision
from palate.models.probe.trial import Probe, Trial, probing
from palate.models.scoring.forward import install
from palate.models.scoring.head import Head, dense_logps, head_of
from palate.models.scoring.rewards import end_index, install_rewards, states_at_ends
from palate.models.upstream import changed
from palate.text.batch import Batch


def probe(
    model: Any,
    *,
    head: str = "lm",
    kernels: Sequence[str] = (TREE,),
    precision: Precision = FP32,
    longest: int | None = None,
    gradients: bool = True,
) -> Probe:
    """Score random groups packed and in separate rows, and compare the head with the model's own logits.

    Leaves the model with the scoring forward installed and, if `packed`, tree attention selected; the name of its own
    attention is then in `original_attention`.

    Args:
        model: of transformers, unwrapped, in its final dtype and on its device.
        head: `lm`, or `reward` for a sequence classifier, of which the states that rewards are read from are compared.
        kernels: names in `ATTENTION_FUNCTIONS` for packed rows, in order of preference; the first that agrees is
            selected. Without any, rows are padded.
        precision: in which they will compute.
        longest: tokens of the longest sequence that will be scored, if known.
        gradients: compare gradients too; False for a model that is not trained.

    Raises:
        ModelError: the model's scores of a row depend on other rows in any arrangement.
    """
    unit, rewards = 1.0, head == "reward"
    if rewards:
        install_rewards(model)
        heads = [Head()]
    else:
        install(model, head_of(model))
        heads = [model.head, replace(model.head, original=True)]

    # All calls go through the model's own forward, whose hooks gather the weights of a sharded model.
    def original(inputs: dict[str, torch.Tensor], batch: Batch) -> torch.Tensor:
        if rewards:
            decoder = model.base_model.forward
            with changed(model, forward=decoder):
                states: torch.Tensor = model(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)
            return states[end_index(batch)].float() / unit
        logits = model(**inputs, use_cache=False).logits.flatten(0, 1)
        return dense_logps(logits[batch.target_index], batch.target_ids)

    def score(batch: Batch) -> torch.Tensor:
        if rewards:
            with changed(model, forward=lambda: states_at_ends(model, batch)):
                ends: torch.Tensor = model()
            return ends / unit
        logps: torch.Tensor = model(**batch.model_inputs()).logps
        return logps

    with probing(model):
        trial = Trial(model, original, score, longest=longest, gradients=gradients)
        if rewards:
            # The scale of hidden states differs from model to model, unlike that of log-probabilities.
            unit = trial.largest()
        trial.measure()
        found = trial.choose_head(lambda one: None if rewards else install(model, one), heads)
        return trial.choose_kernel(found, kernels, precision)


def same_choices(model: Any, probed: Any) -> None:
    """Give a model what the probe chose for a copy of it."""
    if hasattr(probed, "head"):
        install(model, probed.head)
    else:
        install_rewards(model)
    model.length_rule = probed.length_rule
    if hasattr(probed, "original_attention"):
        model.original_attention = probed.original_attention
        model.set_attn_implementation(probed.config._attn_implementation)
