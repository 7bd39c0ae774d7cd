"""A probe at load: does this architecture compute the same in a packed row as in separate rows?

It scores a few random tokens both ways, because that works for every architecture, and compares values and gradients of
sequences within and beyond the lengths at which a model changes its computation (`models.probe.group`). Differences are
relative to the effect of another prompt: if a model's outputs are nearly uniform, a leak between completions is small.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from palate.errors import ModelError
from palate.models.attention.flex import FLEX
from palate.models.attention.kernels import kernel_label
from palate.models.attention.rotary import LengthRule, reset_rope_lengths
from palate.models.attention.tree import TREE
from palate.models.frozen import float_products
from palate.models.precision import FP32, Precision
from palate.models.probe.group import narrow_windows, probe_groups
from palate.models.probe.layer_call import LayerCall, attention_calls, kernel_differs
from palate.models.scoring.forward import install
from palate.models.scoring.head import Head, dense_logps, head_of
from palate.models.scoring.rewards import end_index, install_rewards, states_at_ends
from palate.models.upstream import CALL_ERRORS, changed, evaluating, first_line
from palate.text.batch import Batch


@dataclass(frozen=True, slots=True)
class Probe:
    """Result of the probe.

    Attributes:
        packed: True if tree attention in a packed row equals separate rows.
        reason: why not, in a few words; empty if packed.
        attention: what computes the rows, for run.json: `tree`, `flex`, `varlen (…)` with the kernel's name, or
            `padded: …` with the reason.
        refused: faster kernels that were tried first, each with the reason why it is not used.
    """

    packed: bool
    reason: str
    attention: str
    refused: tuple[str, ...]


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
def _probing(model: Any) -> Iterator[None]:
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
    if head == "reward":
        install_rewards(model)
    else:
        install(model, head_of(model))
    with _probing(model):
        trial = _Trial(model, rewards=head == "reward", longest=longest, gradients=gradients)
        trial.choose_head()
        return trial.choose_kernel(kernels, precision)


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


class _Trial:
    """A few random sequences, scored one at a time by the model's own forward, then padded and packed.

    Args:
        rewards: whether the states that rewards are read from are compared, in units of the largest of them, and not
            log-probabilities: the scale of hidden states differs from model to model.
    """

    def __init__(self, model: Any, *, rewards: bool, longest: int | None, gradients: bool) -> None:
        self._model, self._rewards, self._gradients = model, rewards, gradients
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
        self._gradient: list[Tensor] | None = None
        self._unit = 1.0
        with torch.no_grad():
            if rewards:
                self._unit = float(self._score(self._groups.padded(self._device)).abs().max().clamp(min=1e-6))
            # Values of each row alone, and the effect of another prompt on them.
            values = []
            for row in self._groups.rows(self._device):
                reset_rope_lengths(model)
                values.append(self._alone(row))
            self._expected = torch.cat(values)
            other = self._alone(self._groups.with_another_prompt().padded(self._device))
            self._effect = float((other - self._expected).norm())

    def _alone(self, batch: Batch) -> Tensor:
        """A batch's values by the model's own forward: a row for each trained token or completion."""
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
        if self._groups.beyond is not None:
            inputs["position_ids"] = batch.position_ids
        model = self._model  # called itself: its hooks gather the weights of a sharded model
        if self._rewards:
            with changed(model, forward=model.base_model.forward):
                states: Tensor = model(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)
            return states[end_index(batch)].float() / self._unit
        logits = model(**inputs, use_cache=False).logits.flatten(0, 1)
        return dense_logps(logits[batch.target_index], batch.target_ids)

    def _score(self, batch: Batch) -> Tensor:
        """The same by the scoring forward."""
        if self._rewards:
            with changed(self._model, forward=lambda: states_at_ends(self._model, batch)):
                ends: Tensor = self._model()
            return ends / self._unit
        logps: Tensor = self._model(**batch.model_inputs()).logps
        return logps

    def choose_head(self) -> None:
        """Leave the model with the first head with which padded rows equal separate rows, and a `LengthRule` if needed.

        Raises:
            ModelError: there is none.
        """
        model = self._model
        heads = [Head()] if self._rewards else [model.head, replace(model.head, original=True)]
        if not self._expected.isfinite().all():
            return  # nothing to compare; the first training step names the rows with a non-finite loss
        reason = ""
        for rule in (model.length_rule, LengthRule("rows", (0,), each=True)):
            model.length_rule = rule
            for head in heads:
                if not self._rewards:
                    install(model, head)
                try:
                    values, gradient = self._scored(self._groups.padded(self._device), backward=self._gradients)
                except AttributeError:  # this architecture's decoder has another name
                    continue
                # In half precision these differences are rounding; only packed rows are held to the relative limit.
                reason = self._unequal(values, self._tolerance.values if self._tolerance.absolute < 0.1 else math.inf)
                if not reason:
                    self._gradient = None if gradient is None else self._groups.joined(gradient)
                    return
        raise ModelError(
            f"{type(model).__name__}: its scores of a row depend on other rows of the batch "
            f"({reason or 'no decoder'}), so palate cannot score it"
        )

    def choose_kernel(self, kernels: Sequence[str], precision: Precision) -> Probe:
        """Check packed rows, then select the first kernel that agrees; without kernels, rows are padded."""
        model = self._model
        reason = self._mixes() if kernels else "attention: padded was asked for"
        refused: list[str] = []
        if not reason:
            # Generation uses the original attention, by the name that this model came with.
            model.original_attention = model.config._attn_implementation
            reason = self._try(TREE, FP32)
            for kernel in () if reason else kernels:
                why = "" if kernel == TREE else self._try(kernel, precision)
                if not why:
                    model.set_attn_implementation(kernel)
                    return Probe(True, "", kernel_label(kernel), tuple(refused))
                refused.append(f"{kernel_label(kernel)}: {why}")
            reason = reason or refused.pop()
            model.set_attn_implementation(model.original_attention)
        return Probe(False, reason, f"padded: {reason}", tuple(refused))

    def _mixes(self) -> str:
        """Why rows cannot be packed whatever the kernel; empty if they can."""
        if not self._expected.isfinite().all():
            return "its scores of random tokens are not finite"
        rule: LengthRule | None = self._model.length_rule
        return rule.reason if rule is not None and self._crosses else mixes_tokens(self._model)

    def _try(self, kernel: str, precision: Precision) -> str:
        """Score the groups packed by a kernel in a precision: why it cannot be used, empty if it can.

        All but tree attention are compared with it on random numbers, for each kind of layer. The model's values are
        compared in float32 only: in half precision rounding hides an error there, and a mixture of experts turns it
        into another choice.
        """
        # FlexAttention has no backward on a CPU.
        backward = self._gradients and (kernel != FLEX or self._device.type != "cpu")
        calls: list[LayerCall] = []
        try:
            with precision.context(self._device):
                with attention_calls(kernel, calls):
                    self._model.set_attn_implementation(kernel)
                    values, gradient = self._scored(self._groups.packed(self._device), backward=backward)
                for call in () if kernel == TREE else dict.fromkeys(calls):
                    if reason := kernel_differs(kernel, call, self._device, backward=backward):
                        return reason
            if kernel != TREE and not values.isfinite().all():
                return "its scores are not finite"
            if precision.autocast is not None:
                return ""
            reason = self._unequal(values, self._tolerance.values) or self._other_gradient(gradient)
        # An architecture may fail on a mask that is no tensor, or be refused by `attention.interface`.
        except (ModelError, *CALL_ERRORS) as error:
            return f"{type(error).__name__}: {first_line(error)}"
        return reason or ("" if calls else "its attention does not dispatch through transformers' attention interface")

    def _scored(self, batch: Batch, *, backward: bool) -> tuple[Tensor, Tensor | None]:
        """A batch's values, and the gradient of their weighted sum with respect to the embedded tokens [rows, T, H].

        The gradient is None if the batch was not embedded in one call, or `backward` is False.
        """
        if not backward:
            with torch.no_grad():
                return self._score(batch), None
        embedded: list[Tensor] = []

        def leaf(module: Any, args: Any, output: Tensor) -> Tensor:
            del module, args
            embedded.append(output.detach().requires_grad_(True))
            return embedded[-1]

        handle = self._model.get_input_embeddings().register_forward_hook(leaf)
        try:
            with torch.enable_grad():
                values = self._score(batch)
                # Unequal weights: errors do not cancel, and the sum of a layer norm's outputs would always be 0.
                flat = values.flatten(1) if values.dim() > 1 else values[:, None]
                total = _unequal_weights(len(flat), flat) @ flat @ _unequal_weights(flat.shape[1], flat)
                gradient = torch.autograd.grad(total, embedded)[0].float() if len(embedded) == 1 else None
        finally:
            handle.remove()
        return values.detach(), gradient

    def _unequal(self, values: Tensor, limit: float) -> str:
        """Why the values are not those of separate rows; empty if they are, within a limit relative to the effect."""
        difference = float((values - self._expected).abs().max())
        if difference <= 4 * torch.finfo(torch.float32).eps * float(self._expected.abs().max()):
            return ""  # rounding
        if not difference <= self._tolerance.absolute:
            return f"a batch and separate rows differ by {difference:.3g} in log-probability"
        share = float((values - self._expected).norm()) / max(self._effect, 1e-12)
        if not share <= limit:
            return f"a batch and separate rows differ by {share:.2%} of the effect of another prompt"
        return ""

    def _other_gradient(self, gradient: Tensor | None) -> str:
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


def _unequal_weights(count: int, like: Tensor) -> Tensor:
    """Different numbers between 1 and 2, [count]."""
    return (1.0 + torch.arange(count, device=like.device) * 0.618 % 1.0).to(like.dtype)
