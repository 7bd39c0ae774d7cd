"""The scoring forward: log-probabilities of trained tokens only.

`install` replaces a model's forward before PEFT, accelerate and Trainer wrap it: given `target_index` it returns
`TokenLogps` instead of logits.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from palate.models.attention.rotary import forward_by_length, length_rule
from palate.models.scoring.head import Head, dense_logps, head_logps, head_square_sums, log_square_sums
from palate.models.scoring.logps import TokenLogps
from palate.models.scoring.trunk import TrunkCache, TrunkRun
from palate.models.scoring.value_head import values_of
from palate.models.upstream import active_module, changed
from palate.text.batch import Batch

T = TypeVar("T")


def score(call: Callable[..., T], batch: Batch, trunk: TrunkCache | None) -> T:
    """The output of one forward pass; the trunk cache supplies the frozen layers' output, or records it."""
    if not trunk:
        return call(**batch.model_inputs())
    run = trunk.run(batch)
    output = call(**batch.model_inputs(), trunk=run)
    trunk.keep(batch, run)
    return output


def install(model: Any, head: Head) -> None:
    """Give a causal LM the scoring forward. Calls without `target_index` still reach the original forward."""
    model.head = head
    replace_forward(model, _scoring_forward)


def replace_forward(model: Any, forward: Callable[..., Any]) -> None:
    """Give a model another forward, once or again; its own is then `original_forward`."""
    if not hasattr(model, "original_forward"):
        model.original_forward = model.forward
    if not hasattr(model, "length_rule"):  # the probe may have set a stricter one
        model.length_rule = length_rule(model.config)
    model.forward = types.MethodType(forward, model)


def _scoring_forward(
    self: Any,
    input_ids: Tensor | None = None,
    *,
    target_index: Tensor | None = None,
    target_ids: Tensor | None = None,
    trunk: TrunkRun | None = None,
    square_sums: bool = False,
    routers: bool = False,
    **kwargs: Any,
) -> Any:
    """`TokenLogps` of the targets, with `square_sums` and `routers` if asked for; without targets, as before."""
    if target_index is None or target_ids is None:
        if getattr(self.config, "output_router_logits", False):
            # The original forward would compute a balancing loss, whose mask does not fit tokens decoded one by one.
            kwargs["output_router_logits"] = False
        return self.original_forward(input_ids=input_ids, **kwargs)
    # PEFT passes its own keywords as None; only keywords with a value may reach the decoder.
    inputs = {"input_ids": input_ids, **{name: value for name, value in kwargs.items() if value is not None}}
    if self.head.original:
        return _dense(logits_at(self, inputs, target_index), target_ids, square_sums)
    with trunk.installed() if trunk is not None else contextlib.nullcontext():
        hidden, routed = states_at(self, self.get_decoder(), inputs, target_index, routers=routers)
    values = values_of(self, hidden)
    output = active_module(self.get_output_embeddings())
    if not is_linear(output):  # a head with an adapter computes its own logits
        dense = _dense(self.head.transform(output(hidden).float()), target_ids, square_sums)
        return dense._replace(values=values, router_logits=routed)

    def scores(hidden: Tensor) -> tuple[Tensor, Tensor | None]:
        squares = head_square_sums(hidden, output.weight, output.bias, self.head) if square_sums else None
        return head_logps(hidden, output.weight, output.bias, target_ids, self.head), squares

    sharded = isinstance(output, FSDPModule)
    if sharded:
        with changed(output, forward=scores):
            logps, squares = output(hidden)  # called as the module, whose hooks gather its weights
    else:
        logps, squares = scores(hidden)
    return TokenLogps(logps, squares, values, routed)


def is_linear(output: nn.Module) -> bool:
    """Whether a head is a linear layer and nothing else; FSDP2 gives each module that it divides a class of its own."""
    return (type(output).__bases__[1] if isinstance(output, FSDPModule) else type(output)) is nn.Linear


def states_at(
    model: Any, decoder: Any, inputs: dict[str, Any], index: Tensor, *, routers: bool = False
) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """Hidden states [M, H] at offsets [M] of the flattened batch.

    With `routers`, also the router logits [tokens, E] of each layer with experts; such rows are scored in one pass.
    """
    if routers:
        output = decoder(**inputs, use_cache=False, output_router_logits=True)
        return output.last_hidden_state.flatten(0, 1)[index], tuple(output.router_logits)
    states = forward_by_length(model, lambda **given: decoder(**given, use_cache=False).last_hidden_state, inputs)
    return states.flatten(0, 1)[index], None


def decoder_inputs(batch: Batch) -> dict[str, Any]:
    """The arguments of a batch for the model without its head."""
    inputs = batch.model_inputs().items()
    return {name: value for name, value in inputs if name not in ("target_index", "target_ids") and value is not None}


def logits_at(model: Any, inputs: dict[str, Any], index: Tensor) -> Tensor:
    """The original forward's logits [M, V] at offsets [M] of the flattened batch."""
    logits = forward_by_length(model, lambda **given: model.original_forward(**given, use_cache=False).logits, inputs)
    return logits.flatten(0, 1)[index]


def _dense(logits: Tensor, target_ids: Tensor, square_sums: bool) -> TokenLogps:
    """Scores [M] from all logits [M, V]."""
    return TokenLogps(
        dense_logps(logits, target_ids), log_square_sums(logits.detach().float()) if square_sums else None
    )
