"""Random sequences scored alone, padded and packed, and the comparison of their values and gradients."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AttentionInterface

from palate.errors import ModelError
from palate.models.attention.flex import FLEX
from palate.models.attention.kernels import TREES, label
from palate.models.attention.rotary import LengthRule, forget_lengths
from palate.models.attention.tree import TREE
from palate.models.frozen import float_products
from palate.models.precision import Precision
from palate.models.probe.group import ProbeGroups, narrow_windows, probe_groups
from palate.models.probe.layer_call import LayerCall, kernel_differs
from palate.models.scoring.head import Head
from palate.models.upstream import CALL_ERRORS, first_line
from palate.text.batch import Batch

T = TypeVar("T")

Score = Callable[[Batch], torch.Tensor]
"""A batch's values, one row for each trained token or completion, in the order of the batch."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Result of the probe.

    Attributes:
        packed: True if tree attention in a packed row equals separate rows.
        reason: why not, in a few words; empty if packed.
        head: the head transform that equals the model's own logits.
        difference: the largest |Δ log π| between packed and separate rows; inf if packed rows could not run.
        attention: what computes the rows, for run.json: `tree`, `flex`, `varlen (…)` with the kernel's name, or
            `padded: …` with the reason.
        refused: faster kernels that were tried first, each with the reason why it is not used.
    """

    packed: bool
    reason: str
    head: Head
    difference: float
    attention: str = ""
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits far above rounding errors and far below the effect of a leaked or lost token.

    Attributes:
        absolute: of a log-probability.
        values: relative to the effect of another prompt.
        gradients: relative to a gradient's norm.
    """

    absolute: float
    values: float
    gradients: float


def tolerance_of(dtype: torch.dtype) -> Tolerance:
    return Tolerance(2e-3, 5e-4, 1e-4) if dtype == torch.float32 else Tolerance(0.25, 0.15, 0.15)


# Parts of the names of recurrent and convolutional layer kinds. In a freshly initialised model a leak through them may
# be smaller than rounding, and it grows as the model trains.
_MIXING = ("conv", "linear", "mamba", "recurrent")


@contextlib.contextmanager
def probing(model: Any) -> Iterator[None]:
    """Inside, the model is in eval mode, no parameter takes a gradient, and wide attention windows are narrow."""
    was_training = model.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with narrow_windows(model), float_products():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(was_training)


class Trial:
    """A few random sequences, scored one at a time by the model's own forward, then padded and packed.

    Args:
        longest: tokens of the longest sequence that will be scored, if known.
        gradients: whether padded and packed rows are compared by gradients too.

    Attributes:
        groups: the sequences.
        difference: the largest difference between packed and separate rows; inf if packed rows could not run.
    """

    def __init__(self, model: Any, longest: int | None, *, gradients: bool = True) -> None:
        self._model = model
        self._gradients = gradients
        self._longest = longest
        self._device = next(model.parameters()).device
        self._tolerance = tolerance_of(next(model.parameters()).dtype)
        self.groups: ProbeGroups = probe_groups(model)
        if not self._crosses():
            self.groups = self.groups.within()
        self.difference = float("inf")
        self._gradient: list[torch.Tensor] | None = None

    def conclude(self, score: Score, head: Head, kernels: Sequence[str], precision: Precision) -> Probe:
        """Check packed rows, then select the first kernel that agrees; without kernels, rows are padded."""
        reason = self.try_tree(score) if kernels else "attention: padded was asked for"
        refused: list[str] = []
        if not reason:
            for kernel in kernels:
                why = self.try_kernel(score, kernel, precision)
                if not why:
                    return Probe(True, "", head, self.difference, label(kernel), tuple(refused))
                refused.append(f"{label(kernel)}: {why}")
            reason = refused.pop()
            self._model.set_attn_implementation(self._model.stock_attention)
        return Probe(False, reason, head, self.difference, f"padded: {reason}", tuple(refused))

    def _crosses(self) -> bool:
        """Whether sequences may be long enough to change the model's rotary angles."""
        rule: LengthRule | None = self._model.length_rule
        return rule is None or self._longest is None or self._longest > rule.limits[0]

    @torch.no_grad()
    def measure(self, stock: Score) -> None:
        """Values of each row alone, and the effect of another prompt on them."""
        values = []
        for row in self.groups.rows(self._device):
            forget_lengths(self._model)
            values.append(stock(row))
        self._expected = torch.cat(values)
        other = stock(self.groups.with_another_prompt().padded(self._device))
        self._scale = float((other - self._expected).norm())

    def settle(self, score: Score, use: Callable[[T], None], choices: Sequence[T]) -> T:
        """The first choice with which padded rows give the values of separate rows; a `LengthRule` is set if needed.

        Args:
            score: scores any batch by the scoring forward.
            use: applies a choice to the model.
            choices: in order of preference.

        Raises:
            ModelError: there is none.
        """
        if not self._expected.isfinite().all():
            return choices[0]  # nothing to compare; the first training step names the rows with a non-finite loss
        reason = ""
        for rule in (self._model.length_rule, LengthRule("rows", (0,), each=True)):
            self._model.length_rule = rule
            for choice in choices:
                use(choice)
                try:
                    padded = self.groups.padded(self._device)
                    values, gradient = _with_gradient(self._model, padded, score, backward=self._gradients)
                except AttributeError:  # this architecture's decoder has another name
                    continue
                # In half precision these differences are rounding; only packed rows are held to the relative limit.
                reason = self._unequal(values, self._tolerance.values if self._tolerance.absolute < 0.1 else math.inf)
                if not reason:
                    self._gradient = None if gradient is None else self.groups.joined(gradient)
                    return choice
        raise ModelError(
            f"{type(self._model).__name__}: its scores of a row depend on other rows of the batch "
            f"({reason or 'no decoder'}), so palate cannot score it"
        )

    def try_tree(self, score: Score) -> str:
        """Score the groups packed, and keep tree attention if values and gradients are those of separate rows.

        Args:
            score: scores any batch by the scoring forward.

        Returns:
            Why tree attention cannot be used; empty if it can.
        """
        model = self._model
        reason = mixes_tokens(model)
        if model.length_rule is not None and self._crosses():
            reason = model.length_rule.reason
        if not self._expected.isfinite().all():
            reason = "its scores of random tokens are not finite"
        if reason:
            return reason
        # Generation uses the stock attention, by the name that this model came with.
        model.stock_attention = model.config._attn_implementation
        calls: Sequence[LayerCall] = ()
        try:
            model.set_attn_implementation(TREE)
            with _noting(TREE) as calls:
                values, gradient = self._packed(score, backward=self._gradients)
            self.difference = float((values - self._expected).abs().max())
            reason = self._unequal(values, self._tolerance.values) or self._other_gradient(gradient)
        # An architecture may fail on a mask that is no tensor, or be refused by `tree_attention`; rows are then padded.
        except (ModelError, *CALL_ERRORS) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
        if not reason and not calls:
            reason = "its attention does not dispatch through transformers' attention interface"
        if reason:
            model.set_attn_implementation(model.stock_attention)
        return reason

    def try_kernel(self, score: Score, kernel: str, precision: Precision) -> str:
        """Score the groups packed by a kernel in the run's precision, and keep it if it agrees with tree attention.

        Each kind of layer is compared on random numbers. The model's log-probabilities are compared in float32 only:
        in half precision rounding hides an error there, and a mixture of experts turns it into another choice.

        Args:
            score: scores any batch by the scoring forward.
            kernel: the member of `TREES` to try, after `try_tree` found no reason against packed rows.
            precision: of the run.

        Returns:
            Why it cannot be used; empty if it can.
        """
        if kernel == TREE:
            self._model.set_attn_implementation(TREE)
            return ""
        # FlexAttention has no backward on a CPU.
        backward = self._gradients and (kernel != FLEX or self._device.type != "cpu")
        try:
            with precision.context(self._device):
                self._model.set_attn_implementation(kernel)
                with _noting(kernel) as calls:
                    values, gradient = self._packed(score, backward=backward)
                for call in dict.fromkeys(calls):
                    if reason := kernel_differs(TREES[kernel], TREES[TREE], call, self._device, backward=backward):
                        return reason
        except (ModelError, *CALL_ERRORS) as error:
            return f"{type(error).__name__}: {first_line(error)}"
        if not values.isfinite().all():
            return "its scores are not finite"
        if precision.autocast is not None:
            return ""
        return self._unequal(values, self._tolerance.values) or self._other_gradient(gradient)

    def _packed(self, score: Score, *, backward: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        return _with_gradient(self._model, self.groups.packed(self._device), score, backward=backward)

    def _unequal(self, values: torch.Tensor, limit: float) -> str:
        """Why the values are not those of separate rows; empty if they are.

        Args:
            limit: of the difference, relative to the effect of another prompt.
        """
        difference = float((values - self._expected).abs().max())
        if difference <= 4 * torch.finfo(torch.float32).eps * float(self._expected.abs().max()):
            return ""  # rounding
        if not difference <= self._tolerance.absolute:
            return f"a batch and separate rows differ by {difference:.3g} in log-probability"
        share = float((values - self._expected).norm()) / max(self._scale, 1e-12)
        if not share <= limit:
            return f"a batch and separate rows differ by {share:.2%} of the effect of another prompt"
        return ""

    def _other_gradient(self, gradient: torch.Tensor | None) -> str:
        """Why gradients in packed rows are not those of padded rows, part by part; empty if they are."""
        if gradient is None or self._gradient is None:
            return ""
        for ours, theirs in zip(self.groups.parts(gradient), self._gradient, strict=True):
            share = float((ours - theirs).norm() / theirs.norm().clamp(min=1e-12))
            if not share <= self._tolerance.gradients:
                return f"the gradients of a batch and of separate rows differ by {share:.2%}"
        return ""


def mixes_tokens(model: Any) -> str:
    """Why a packed row would leak: the model mixes neighbouring tokens outside attention; empty if it does not."""
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
    """A batch's values, and the gradient of their weighted sum with respect to the embedded tokens [rows, T, H].

    The gradient is None if the batch was not embedded in one call, or `backward` is False.
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
            # Unequal weights: errors do not cancel, and the sum of a layer norm's outputs would always be 0.
            flat = values.flatten(1) if values.dim() > 1 else values[:, None]
            total = _unequal_weights(len(flat), flat) @ flat @ _unequal_weights(flat.shape[1], flat)
            gradient = torch.autograd.grad(total, embedded)[0].float() if len(embedded) == 1 else None
    finally:
        handle.remove()
    return values.detach(), gradient


def _unequal_weights(count: int, like: torch.Tensor) -> torch.Tensor:
    """Different numbers between 1 and 2, [count]."""
    return (1.0 + torch.arange(count, device=like.device) * 0.618 % 1.0).to(like.dtype)


@contextlib.contextmanager
def _noting(tree: str) -> Iterator[list[LayerCall]]:
    """Inside, notes how the tree attention function is called."""
    calls: list[LayerCall] = []

    def noted(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        heads = query.shape[1], key.shape[1], query.shape[-1], value.shape[-1]
        calls.append(LayerCall(*heads, attention_mask, kwargs.get("scaling"), kwargs.get("softcap")))
        return TREES[tree](module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register(tree, noted)
    try:
        yield calls
    finally:
        AttentionInterface.register(tree, TREES[tree])
