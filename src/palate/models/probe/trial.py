"""Random sequences scored alone, padded and packed, and the comparison of their values and gradients."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from palate.errors import ModelError
from palate.models.attention.flex import FLEX
from palate.models.attention.kernels import kernel_label
from palate.models.attention.rotary import LengthRule, reset_rope_lengths
from palate.models.attention.tree import TREE
from palate.models.frozen import float_products
from palate.models.precision import Precision
from palate.models.probe.group import narrow_windows, probe_groups
from palate.models.probe.layer_call import LayerCall, attention_calls, kernel_differs
from palate.models.scoring.head import Head
from palate.models.upstream import CALL_ERRORS, evaluating, first_line
from palate.text.batch import Batch


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
class _Tolerance:
    """Limits far above rounding errors and far below the effect of a leaked or lost token.

    Attributes:
        absolute: of a log-probability.
        values: relative to the effect of another prompt.
        gradients: relative to a gradient's norm.
    """

    absolute: float
    values: float
    gradients: float


_TOLERANCE, _HALF_TOLERANCE = _Tolerance(2e-3, 5e-4, 1e-4), _Tolerance(0.25, 0.15, 0.15)

# Parts of the names of recurrent and convolutional layer kinds. In a freshly initialised model a leak through them may
# be smaller than rounding, and it grows as the model trains.
_MIXING = ("conv", "linear", "mamba", "recurrent")


@contextlib.contextmanager
def probing(model: Any) -> Iterator[None]:
    """Inside, the model is in eval mode, no parameter takes a gradient, and wide attention windows are narrow."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with evaluating(model), narrow_windows(model), float_products():
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


class Trial:
    """A few random sequences, scored one at a time by the model's own forward, then padded and packed.

    Args:
        original: a batch's values by the model's own forward, from its keywords and the batch.
        score: a batch's values by the scoring forward. Both give one row for each trained token or completion.
        longest: tokens of the longest sequence that will be scored, if known.
        gradients: whether padded and packed rows are compared by gradients too.
    """

    def __init__(
        self,
        model: Any,
        original: Callable[[dict[str, torch.Tensor], Batch], torch.Tensor],
        score: Callable[[Batch], torch.Tensor],
        *,
        longest: int | None,
        gradients: bool,
    ) -> None:
        self._model, self._original, self._score = model, original, score
        self._gradients = gradients
        first = next(model.parameters())
        # Quantised layers multiply in half precision, whatever the dtype of the others.
        half = first.dtype != torch.float32 or getattr(model, "is_quantized", False)
        self._device, self._tolerance = first.device, _HALF_TOLERANCE if half else _TOLERANCE
        self._groups = probe_groups(model)
        rule: LengthRule | None = model.length_rule
        # Whether sequences may be long enough to change the model's rotary angles.
        self._crosses = rule is None or longest is None or longest > rule.limits[0]
        if not self._crosses:
            self._groups = replace(self._groups, beyond=None)
        self._difference = float("inf")  # the largest between packed and separate rows
        self._gradient: list[torch.Tensor] | None = None

    @torch.no_grad()
    def largest(self) -> float:
        """The largest absolute value of padded rows."""
        return float(self._score(self._groups.padded(self._device)).abs().max().clamp(min=1e-6))

    @torch.no_grad()
    def measure(self) -> None:
        """Values of each row alone, and the effect of another prompt on them."""
        values = []
        for row in self._groups.rows(self._device):
            reset_rope_lengths(self._model)
            values.append(self._alone(row))
        self._expected = torch.cat(values)
        other = self._alone(self._groups.with_another_prompt().padded(self._device))
        self._scale = float((other - self._expected).norm())

    def _alone(self, batch: Batch) -> torch.Tensor:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
        if self._groups.beyond is not None:
            inputs["position_ids"] = batch.position_ids
        return self._original(inputs, batch)

    def choose_head(self, use: Callable[[Head], None], choices: Sequence[Head]) -> Head:
        """The first head, given by `use`, with which padded rows equal separate rows; sets a `LengthRule` if needed.

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
                    padded = self._groups.padded(self._device)
                    values, gradient = _with_gradient(self._model, padded, self._score, backward=self._gradients)
                except AttributeError:  # this architecture's decoder has another name
                    continue
                # In half precision these differences are rounding; only packed rows are held to the relative limit.
                reason = self._unequal(values, self._tolerance.values if self._tolerance.absolute < 0.1 else math.inf)
                if not reason:
                    self._gradient = None if gradient is None else self._groups.joined(gradient)
                    return choice
        raise ModelError(
            f"{type(self._model).__name__}: its scores of a row depend on other rows of the batch "
            f"({reason or 'no decoder'}), so palate cannot score it"
        )

    def choose_kernel(self, head: Head, kernels: Sequence[str], precision: Precision) -> Probe:
        """Check packed rows, then select the first kernel that agrees; without kernels, rows are padded."""
        reason = self._try_tree() if kernels else "attention: padded was asked for"
        refused: list[str] = []
        if not reason:
            for kernel in kernels:
                why = self._try_kernel(kernel, precision)
                if not why:
                    return Probe(True, "", head, self._difference, kernel_label(kernel), tuple(refused))
                refused.append(f"{kernel_label(kernel)}: {why}")
            reason = refused.pop()
            self._model.set_attn_implementation(self._model.original_attention)
        return Probe(False, reason, head, self._difference, f"padded: {reason}", tuple(refused))

    def _try_tree(self) -> str:
        """Score the groups packed by tree attention: why it cannot be used, or "" if it can, and then it is kept."""
        model = self._model
        reason = mixes_tokens(model)
        if model.length_rule is not None and self._crosses:
            reason = model.length_rule.reason
        if not self._expected.isfinite().all():
            reason = "its scores of random tokens are not finite"
        if reason:
            return reason
        # Generation uses the original attention, by the name that this model came with.
        model.original_attention = model.config._attn_implementation
        calls: list[LayerCall] = []
        try:
            with attention_calls(TREE, calls):
                values, gradient = self._packed(TREE, backward=self._gradients)
            self._difference = float((values - self._expected).abs().max())
            reason = self._unequal(values, self._tolerance.values) or self._other_gradient(gradient)
        # An architecture may fail on a mask that is no tensor, or be refused by `attention.interface`.
        except (ModelError, *CALL_ERRORS) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
        if not reason and not calls:
            reason = "its attention does not dispatch through transformers' attention interface"
        if reason:
            model.set_attn_implementation(model.original_attention)
        return reason

    def _try_kernel(self, kernel: str, precision: Precision) -> str:
        """Score the groups packed by a kernel in the run's precision: why it cannot be used, or "" as above.

        Each kind of layer is compared on random numbers. The model's log-probabilities are compared in float32 only:
        in half precision rounding hides an error there, and a mixture of experts turns it into another choice.
        """
        if kernel == TREE:
            self._model.set_attn_implementation(TREE)
            return ""
        # FlexAttention has no backward on a CPU.
        backward = self._gradients and (kernel != FLEX or self._device.type != "cpu")
        calls: list[LayerCall] = []
        try:
            with precision.context(self._device):
                with attention_calls(kernel, calls):
                    values, gradient = self._packed(kernel, backward=backward)
                for call in dict.fromkeys(calls):
                    if reason := kernel_differs(kernel, call, self._device, backward=backward):
                        return reason
        except (ModelError, *CALL_ERRORS) as error:
            return f"{type(error).__name__}: {first_line(error)}"
        if not values.isfinite().all():
            return "its scores are not finite"
        if precision.autocast is not None:
            return ""
        return self._unequal(values, self._tolerance.values) or self._other_gradient(gradient)

    def _packed(self, kernel: str, *, backward: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        self._model.set_attn_implementation(kernel)
        return _with_gradient(self._model, self._groups.packed(self._device), self._score, backward=backward)

    def _unequal(self, values: torch.Tensor, limit: float) -> str:
        """Why the values are not those of separate rows; empty if they are, within a limit relative to the effect."""
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
        for ours, theirs in zip(self._groups.parts(gradient), self._gradient, strict=True):
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
    model: Any, batch: Batch, score: Callable[[Batch], torch.Tensor], *, backward: bool
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
