"""A probe at load: does this architecture compute the same in a packed row as in separate rows?

Reading an architecture's code cannot answer that for every model there is; scoring a few random tokens both ways can.
What is compared: values and their gradients, of sequences within and beyond the lengths at which a model changes what
it computes (`models.probe.group`). A difference is judged against what another prompt would change: in a model whose
outputs are nearly uniform a leak between completions is as small as its outputs are.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AttentionInterface

from palate.errors import ModelError
from palate.models.attention.flex import FLEX, flex_tree_attention
from palate.models.attention.tree import TREE, tree_attention
from palate.models.probe.group import ProbeGroups, narrow_windows, probe_groups
from palate.models.probe.rotary import LengthRule, forget_lengths
from palate.models.score import Head, dense_logps, head_of, install
from palate.text.batch import Batch

# registered name → how a packed row's attention is computed
TREES: Mapping[str, Callable[..., Any]] = {TREE: tree_attention, FLEX: flex_tree_attention}

T = TypeVar("T")

Score = Callable[[Batch], torch.Tensor]
"""A batch's values, one row for each trained token or completion, in the order of the batch."""


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


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Rounding moves values by far less than this, a leaked or lost token by far more.

    Attributes:
        absolute: of a log-probability.
        values: as a share of what another prompt changes.
        gradients: as a share of a gradient's norm.
    """

    absolute: float
    values: float
    gradients: float


# Parts of the names of layer kinds that are recurrent or convolve: in a model that was just initialised what leaks
# through them may be smaller than rounding, and it grows as the model trains.
_MIXING = ("conv", "linear", "mamba", "recurrent")


def tolerance_of(dtype: torch.dtype) -> Tolerance:
    return Tolerance(2e-3, 5e-4, 1e-4) if dtype == torch.float32 else Tolerance(0.25, 0.15, 0.15)


def probe(model: Any, *, want_packed: bool = True, tree: str = TREE, longest: int | None = None) -> Probe:
    """Score random groups by tree and by separate rows, and the head against the model's own logits.

    Leaves the model with the scoring forward installed and, where `packed`, the tree attention selected; the name of
    its own attention is then its `stock_attention`.

    Args:
        model: a causal LM of transformers, unwrapped, in its final dtype and on its device.
        want_packed: False skips the tree and keeps the padded path.
        tree: which of `TREES` computes packed rows.
        longest: tokens of the longest sequence that will be scored, where that is known.

    Raises:
        ModelError: the model's scores of a row change with the rows beside it, however they are arranged.
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

    def use(one: Head) -> None:
        install(model, one)

    with probing(model):
        trial = Trial(model, longest)
        trial.measure(stock)
        head = trial.settle(score, use, [head, replace(head, stock=True)])
        reason = trial.try_tree(score, tree) if want_packed else "attention: padded was asked for"
    return Probe(not reason, reason, head, trial.difference)


@contextlib.contextmanager
def probing(model: Any) -> Iterator[None]:
    """Inside, the model has no dropout, no parameter takes a gradient, and wide attention windows are narrow."""
    was_training = model.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with narrow_windows(model):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(was_training)


class Trial:
    """A few random sequences, scored one at a time by the model's own forward, and then in every other way.

    Args:
        model: with its scoring forward.
        longest: tokens of the longest sequence that will be scored, where that is known.

    Attributes:
        groups: the sequences.
        difference: the largest difference seen between packed and separate rows; inf where packed could not run.
    """

    def __init__(self, model: Any, longest: int | None) -> None:
        self._model = model
        self._longest = longest
        self._device = next(model.parameters()).device
        self._tolerance = tolerance_of(next(model.parameters()).dtype)
        self.groups: ProbeGroups = probe_groups(model)
        if not self._crosses():
            self.groups = self.groups.within()
        self.difference = float("inf")
        self._gradient: list[torch.Tensor] | None = None

    def _crosses(self) -> bool:
        """Whether sequences may be longer than the model's rotary angles stay the same."""
        rule: LengthRule | None = self._model.length_rule
        return rule is None or self._longest is None or self._longest > rule.limits[0]

    @torch.no_grad()
    def measure(self, stock: Score) -> None:
        """Values of each row alone, and what another prompt would change in them.

        Args:
            stock: of a padded batch, by the model's own forward.
        """
        values = []
        for row in self.groups.rows(self._device):
            forget_lengths(self._model)
            values.append(stock(row))
        self._expected = torch.cat(values)
        other = stock(self.groups.with_another_prompt().padded(self._device))
        self._scale = float((other - self._expected).norm())

    def settle(self, score: Score, use: Callable[[T], None], choices: Sequence[T]) -> T:
        """The first choice with which padded rows give what each row gives alone; rows are kept apart if need be.

        Raises:
            ModelError: there is none.
        """
        if not self._expected.isfinite().all():
            return choices[0]  # nothing can be compared: the first step names the rows whose loss is not finite
        reason = ""
        for rule in (self._model.length_rule, LengthRule("rows", (0,), each=True)):
            self._model.length_rule = rule
            for choice in choices:
                use(choice)
                try:
                    values, gradient = _with_gradient(self._model, self.groups.padded(self._device), score)
                except AttributeError:  # the decoder of this architecture is not where it is in others
                    continue
                # In half precision rounding is all that differs here: packing is what may leak.
                reason = self._unequal(values, self._tolerance.values if self._tolerance.absolute < 0.1 else math.inf)
                if not reason:
                    self._gradient = None if gradient is None else self.groups.joined(gradient)
                    return choice
        raise ModelError(
            f"{type(self._model).__name__}: its scores of a row change with the rows beside it "
            f"({reason or 'no decoder'}), so no batch of it can be trusted"
        )

    def try_tree(self, score: Score, tree: str = TREE) -> str:
        """Score the groups packed, and keep tree attention if that gives what separate rows gave.

        Args:
            score: of any batch, by the scoring forward.
            tree: which of `TREES` is tried.

        Returns the reason why not, empty where it does.
        """
        model = self._model
        reason = mixes_tokens(model)
        if model.length_rule is not None and self._crosses():
            reason = model.length_rule.reason
        if not self._expected.isfinite().all():
            reason = "its scores of random tokens are not finite"
        if reason:
            return reason
        # Generation goes back to it: not every architecture has one of another name, or the same scores from that.
        model.stock_attention = model.config._attn_implementation
        calls = 0
        backward = tree != FLEX or self._device.type != "cpu"  # where FlexAttention has none, and no run trains with it
        try:
            model.set_attn_implementation(tree)
            with _counting(tree) as counter:
                values, gradient = _with_gradient(model, self.groups.packed(self._device), score, backward=backward)
            calls = counter[0]
            self.difference = float((values - self._expected).abs().max())
            reason = self._unequal(values, self._tolerance.values) or self._other_gradient(gradient)
        # Any architecture may break in its own way on a mask that is no tensor; the padded path is the answer to all.
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if not reason and calls == 0:
            reason = "its attention does not dispatch through transformers' attention interface"
        if reason:
            model.set_attn_implementation(model.stock_attention)
        return reason

    def _unequal(self, values: torch.Tensor, limit: float) -> str:
        """Why the values are not those of separate rows; empty where they are.

        Args:
            limit: of the difference, as a share of what another prompt changes.
        """
        difference = float((values - self._expected).abs().max())
        if difference <= 4 * torch.finfo(torch.float32).eps * float(self._expected.abs().max()):
            return ""  # their last digits
        if not difference <= self._tolerance.absolute:
            return f"a batch and separate rows differ by {difference:.3g} in log-probability"
        share = float((values - self._expected).norm()) / max(self._scale, 1e-12)
        if not share <= limit:
            return f"a batch and separate rows differ by {share:.2%} of what another prompt changes"
        return ""

    def _other_gradient(self, gradient: torch.Tensor | None) -> str:
        """Why gradients in packed rows are not those of padded rows, part by part; empty where they are."""
        if gradient is None or self._gradient is None:
            return ""
        for ours, theirs in zip(self.groups.parts(gradient), self._gradient, strict=True):
            share = float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))
            if not share <= self._tolerance.gradients:
                return f"the gradients of a batch and of separate rows differ by {share:.2%}"
        return ""


def mixes_tokens(model: Any) -> str:
    """Why a model mixes neighbouring tokens outside of attention, which a packed row cannot keep apart; else empty."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or [])
    found = sorted(kind for kind in kinds if any(part in kind for part in _MIXING))
    if found:
        return f"its layers of kind {', '.join(found)} mix neighbouring tokens"
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
            return f"its convolution {name} mixes neighbouring tokens"
    return ""


def _with_gradient(
    model: Any, batch: Batch, score: Score, *, backward: bool = True
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A batch's values, and the gradient of their weighted sum by the embedded tokens, [rows, T, H].

    None in place of the gradient where the batch was not embedded as a whole, or `backward` is False.
    """
    if not backward:
        with torch.no_grad():
            return score(batch), None
    embedded: list[torch.Tensor] = []

    def leaf(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        del module, args
        embedded.append(output.detach().requires_grad_(True))
        return embedded[-1]

    handle = model.get_input_embeddings().register_forward_hook(leaf)
    try:
        with torch.enable_grad():
            values = score(batch)
            # Unequal weights, so that errors do not cancel, and because a layer norm's outputs sum to 0.
            flat = values.flatten(1) if values.dim() > 1 else values[:, None]
            total = _unequal_weights(len(flat), flat) @ flat @ _unequal_weights(flat.shape[1], flat)
            gradient = torch.autograd.grad(total, embedded)[0].float() if len(embedded) == 1 else None
    finally:
        handle.remove()
    return values.detach(), gradient


def _unequal_weights(count: int, like: torch.Tensor) -> torch.Tensor:
    """Numbers between 1 and 2, no two of them equal, [count]."""
    return (1.0 + torch.arange(count, device=like.device) * 0.618 % 1.0).to(like.dtype)


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
