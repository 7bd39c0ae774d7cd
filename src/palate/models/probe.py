"""A probe at load: does this architecture compute the same in a packed row as in separate rows?

Reading an architecture's code cannot answer that for every model there is; scoring one random group both ways can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from palate.models.attention import TREE, tree_attention
from palate.models.flex_attention import FLEX, flex_tree_attention
from palate.models.logprobs import Head, dense_logps, head_of, install
from palate.text.batch import Batch, pack, pad
from palate.text.encode import EncodedCompletion, EncodedGroup

_PROMPT, _COMPLETIONS = 9, (6, 4, 7)

# registered name → how a packed row's attention is computed
TREES: Mapping[str, Callable[..., Any]] = {TREE: tree_attention, FLEX: flex_tree_attention}


@dataclass(frozen=True, slots=True)
class Probe:
    """What the probe found.

    Attributes:
        packed: True where tree attention in a packed row equals separate rows.
        reason: why not, in a few words; empty where packed.
        head: the head transform that equals the model's own logits.
        difference: the largest |Δ log π| seen between packed and separate rows; inf where packed could not run.
    """

    packed: bool
    reason: str
    head: Head
    difference: float


def probe(model: Any, *, want_packed: bool = True, tree: str = TREE) -> Probe:
    """Score one random group by tree and by separate rows, and the head against the model's own logits.

    Leaves the model with the scoring forward installed and, where `packed`, the tree attention selected; the name of
    its own attention is then its `stock_attention`.

    Args:
        model: a causal LM of transformers, unwrapped, in its final dtype and on its device.
        want_packed: False skips the tree and keeps the padded path.
        tree: which of `TREES` computes packed rows.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return _probe(model, want_packed, tree)
    finally:
        model.train(was_training)


def _probe(model: Any, want_packed: bool, tree: str) -> Probe:
    device = next(model.parameters()).device
    group = random_group(model.config.get_text_config().vocab_size)
    rows = pad([group]).to(device)
    tolerance = tolerance_of(next(model.parameters()).dtype)
    expected = torch.cat([_stock_logps(model, row) for row in separate_rows(group, device)])

    head = head_of(model)
    install(model, head)
    padded = model(**rows.model_inputs()).logps
    if not torch.allclose(padded, expected, atol=tolerance):
        head = replace(head, stock=True)
        install(model, head)
    if not want_packed:
        return Probe(False, "attention: padded was asked for", head, float("inf"))

    def score(batch: Batch) -> torch.Tensor:
        logps: torch.Tensor = model(**batch.model_inputs()).logps
        return logps

    reason, difference = try_tree(model, group, score, expected, tolerance, tree)
    return Probe(not reason, reason, head, difference)


def try_tree(
    model: Any,
    group: EncodedGroup,
    score: Callable[[Batch], torch.Tensor],
    expected: torch.Tensor,
    tolerance: float,
    tree: str = TREE,
) -> tuple[str, float]:
    """Score `group` packed, and keep tree attention if that gives what separate rows gave.

    Args:
        score: of a batch, in the order of its completions.
        expected: the same from separate rows.
        tree: which of `TREES` is tried.

    Returns the reason why not, empty where it does, and the largest difference seen.
    """
    calls, difference, reason = 0, float("inf"), ""
    # Generation goes back to it: not every architecture has one of another name, or the same scores from that.
    model.stock_attention = model.config._attn_implementation
    try:
        model.set_attn_implementation(tree)
        with _counting(tree) as counter:
            packed = score(pack([group]).to(expected.device))
        calls = counter[0]
        difference = float((packed - expected).abs().max())
    # Any architecture may break in its own way on a mask that is no tensor; the padded path is the answer to all.
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if not reason and calls == 0:
        reason = "its attention does not dispatch through transformers' attention interface"
    if not reason and not difference <= tolerance:
        reason = f"packed and separate rows differ by {difference:.3g} in log-probability"
    if reason:
        model.set_attn_implementation(model.stock_attention)
    return reason, difference


def random_group(vocabulary: int) -> EncodedGroup:
    """One prompt with three completions, all tokens different enough that a leak between completions shows."""
    random = np.random.default_rng(0)
    # Low ids are often special tokens with meanings of their own.
    low = min(64, vocabulary // 2)

    def ids(n: int) -> np.ndarray:
        return random.integers(low, vocabulary, n).astype(np.int32)

    return EncodedGroup(
        id="probe",
        prompt_ids=ids(_PROMPT),
        completions=tuple(EncodedCompletion(ids(n), np.ones(n, dtype=bool)) for n in _COMPLETIONS),
    )


def separate_rows(group: EncodedGroup, device: torch.device) -> list[Batch]:
    """Each completion with its prompt as a batch of its own."""
    return [pad([replace(group, completions=(completion,))]).to(device) for completion in group.completions]


def _stock_logps(model: Any, row: Batch) -> torch.Tensor:
    stock: Any = getattr(model, "stock_forward", model.forward)
    logits = stock(input_ids=row.input_ids, attention_mask=row.attention_mask.long(), use_cache=False).logits
    return dense_logps(logits[0, row.target_index], row.target_ids)


def tolerance_of(dtype: torch.dtype) -> float:
    """Rounding moves a log-probability by far less than this, a leaked or lost token by far more."""
    return 2e-3 if dtype == torch.float32 else 0.25


@contextlib.contextmanager
def _counting(tree: str) -> Iterator[list[int]]:
    """Counts the calls of our attention function while the probe runs."""
    calls = [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return TREES[tree](*args, **kwargs)

    AttentionInterface.register(tree, counted)
    try:
        yield calls
    finally:
        AttentionInterface.register(tree, TREES[tree])
