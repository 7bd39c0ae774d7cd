"""KL between two models' next-token distributions at every trained token, over the whole vocabulary.

Both models read the same batch. Logits are computed for the trained tokens only and in chunks of rows, so that no
[tokens, vocabulary] tensor is larger than a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from palate.errors import ModelError
from palate.models.scoring.forward import decoder_inputs, logits_at, states_at
from palate.models.scoring.head import in_compute_dtype, row_chunks
from palate.models.upstream import active_module
from palate.objectives.kl import full_vocabulary
from palate.text.batch import Batch

_LogSoftmax: TypeAlias = Callable[[slice], Tensor]


class TokenDivergence(NamedTuple):
    """Two models at each trained token, float32 [M], in the order of `Batch.target_ids`.

    Attributes:
        logps: log π of the token.
        reference_logps: log π_ref of the token.
        kl: the KL of the next-token distributions there, in nats (`objectives.kl.full_vocabulary`).
    """

    logps: Tensor
    reference_logps: Tensor
    kl: Tensor


@torch.no_grad()
def token_divergence(policy: Any, reference: Any, batch: Batch) -> TokenDivergence:
    """Score a batch under both models; under one and the same model the KL is exactly 0.

    Args:
        policy: a causal LM with the scoring forward (`models.probe.probe`), in eval mode.
        batch: in a layout that both can read.

    Raises:
        ModelError: the two heads have different numbers of tokens.
    """
    targets = batch.target_ids
    of_policy, vocabulary = _head(policy, batch)
    of_reference, other = (of_policy, vocabulary) if reference is policy else _head(reference, batch)
    if vocabulary != other:
        raise ModelError(f"KL needs one vocabulary: the policy's head has {vocabulary} tokens, the reference's {other}")
    logps = torch.empty(len(targets), dtype=torch.float32, device=targets.device)
    reference_logps, kl = torch.empty_like(logps), torch.zeros_like(logps)
    for rows in row_chunks(len(targets), vocabulary) if len(targets) else ():
        ours = of_policy(rows)
        logps[rows] = ours.gather(-1, targets[rows, None]).squeeze(-1)
        if reference is policy:
            continue
        theirs = of_reference(rows)
        reference_logps[rows] = theirs.gather(-1, targets[rows, None]).squeeze(-1)
        kl[rows] = full_vocabulary(ours, theirs)
    return TokenDivergence(logps, logps.clone() if reference is policy else reference_logps, kl)


def _head(model: Any, batch: Batch) -> tuple[_LogSoftmax, int]:
    """A function from rows to the log softmax of their logits, float32 [rows, V]; and V."""
    inputs = decoder_inputs(batch)
    if model.head.original:
        logits = logits_at(model, inputs, batch.target_index)
        return lambda rows: logits[rows].float().log_softmax(-1), logits.shape[-1]
    hidden, _ = states_at(model, model.get_decoder(), inputs, batch.target_index)
    output, head = active_module(model.get_output_embeddings()), model.head
    vocabulary = output.weight.shape[0]
    if type(output) is not nn.Linear:  # of a sharded model, too: its logits are computed where its weights are gathered
        return lambda rows: head.transform(output(hidden[rows]).float()).log_softmax(-1), vocabulary
    h, weight, bias = in_compute_dtype(hidden, output.weight, output.bias)
    return lambda rows: head.logits(h[rows], weight, bias).log_softmax(-1), vocabulary
