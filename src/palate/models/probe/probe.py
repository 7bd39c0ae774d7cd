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
from palate.models.scoring.head import dense_logps, head_of
from palate.text.batch import Batch


def probe(
    model: Any,
    *,
    want_packed: bool = True,
    kernels: Sequence[str] = (TREE,),
    precision: Precision = FP32,
    longest: int | None = None,
    gradients: bool = True,
) -> Probe:
    """Score random groups packed and in separate rows, and compare the head with the model's own logits.

    Leaves the model with the scoring forward installed and, if `packed`, tree attention selected; the name of its own
    attention is then in `stock_attention`.

    Args:
        model: a causal LM of transformers, unwrapped, in its final dtype and on its device.
        want_packed: False skips the tree and uses padded rows.
        kernels: members of `TREES` for packed rows, in order of preference; the first that agrees is selected.
        precision: in which they will compute.
        longest: tokens of the longest sequence that will be scored, if known.
        gradients: compare gradients too; False for a model that is not trained.

    Raises:
        ModelError: the model's scores of a row depend on other rows in any arrangement.
    """
    head = head_of(model)
    install(model, head)

    def stock(batch: Batch) -> torch.Tensor:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
        if trial.groups.beyond is not None:
            inputs["position_ids"] = batch.position_ids
        logits = model.stock_forward(**inputs, use_cache=False).logits.flatten(0, 1)
        return dense_logps(logits[batch.target_index], batch.target_ids)

    def score(batch: Batch) -> torch.Tensor:
        logps: torch.Tensor = model(**batch.model_inputs()).logps
        return logps

    with probing(model):
        trial = Trial(model, longest, gradients=gradients)
        trial.measure(stock)
        head = trial.settle(score, lambda one: install(model, one), [head, replace(head, stock=True)])
        return trial.conclude(score, head, kernels if want_packed else (), precision)
