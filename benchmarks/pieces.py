"""What each piece of a fast step brings on a CPU, and what did not help: one change at a time, both ways in turn.

    python benchmarks/pieces.py                 every comparison
    python benchmarks/pieces.py head attention  those whose name holds a word

Shapes are SmolLM2-135M's, with the lengths of four real pairs. Every comparison computes the same thing twice, in the
same dtype; medians of runs A B A B are divided. Equality is tested in tests/models, not here.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

# Two ways in turn meet more shapes than one run does, and must not drive each other's compiled kernels out.
os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = os.environ["LRU_CACHE_CAPACITY"] = "1024"

import numpy as np
import torch
from _measure import located, positive, precision_option, results_option, say, spread, write_result
from _products import DTYPES
from peft import LoraConfig, get_peft_model
from tables import pieces_table
from transformers import LlamaConfig, LlamaForCausalLM

from palate.models.attention import cpu
from palate.models.attention.cpu import Segment, segments, tree_backward, tree_forward
from palate.models.attention.tree import TREE
from palate.models.cpu import head
from palate.models.cpu.allocator import keep_freed_memory
from palate.models.cpu.layers import apply_fused
from palate.models.scoring.forward import install
from palate.models.scoring.head import dense_logps, head_of
from palate.text.batch import Batch, Layout, Span, pack
from palate.text.groups import EncodedCompletion, EncodedGroup

HEADS, KEY_HEADS, WIDTH, HIDDEN, INNER, VOCABULARY = 9, 3, 64, 576, 1536, 49152
# Prompt and two answers of four pairs of a real conversation set.
PAIRS = ((85, 266, 243), (80, 300, 200), (40, 457, 310), (248, 150, 444))
TARGETS = 1024

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ways to the same result.

    Attributes:
        name: of the change.
        kept: whether palate works the second way.
        before, after: the two ways.
    """

    name: str
    kept: bool
    before: Call
    after: Call


def main() -> int:
    parser = argparse.ArgumentParser(description="One change at a time, before and after in turn.")
    parser.add_argument("words", nargs="*", help="only comparisons whose name holds one of them")
    parser.add_argument("--rounds", type=positive, default=9)
    precision_option(parser)
    results_option(parser)
    options = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    rows = []
    for comparison in comparisons(DTYPES[options.precision]):
        if options.words and not any(word in comparison.name for word in options.words):
            continue
        rows.append(measure(comparison, options.rounds))
        say(f"{comparison.name}: {rows[-1]['ratio']:.2f}×")
    facts = {"precision": options.precision, "threads": torch.get_num_threads()}
    if not rows:
        sys.exit(f"no comparison's name holds {' or '.join(options.words)}")
    result = located({"benchmark": "pieces", **facts, "rows": rows})
    print(pieces_table([result]))
    if not options.words:
        say(f"written: {write_result(f'pieces-{options.precision}', result, options.results)}")
    return 0


def measure(comparison: Comparison, rounds: int) -> dict[str, Any]:
    """Medians of both ways, taken in turn after a warm-up."""
    comparison.before(), comparison.after()
    before, after = [], []
    for _ in range(rounds):
        before.append(_seconds(comparison.before))
        after.append(_seconds(comparison.after))
    return {
        "name": comparison.name,
        "kept": comparison.kept,
        "before": spread(before),
        "after": spread(after),
        "ratio": statistics.median(before) / statistics.median(after),
    }


def _seconds(call: Call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def comparisons(dtype: torch.dtype) -> Iterator[Comparison]:
    yield from attention(dtype)
    yield from head_pieces(dtype)
    yield from layer_pieces(dtype)
    yield from products(dtype)


# ---- attention


def autocast(dtype: torch.dtype) -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def layout() -> Layout:
    spans, start = [], 0
    for prompt, *answers in PAIRS:
        spans.append(Span(start, prompt, tuple(answers)))
        start += prompt + sum(answers)
    return Layout(tuple(spans))


def attention(dtype: torch.dtype) -> Iterator[Comparison]:
    parts, tokens = segments(layout()), layout().tokens
    q, k, v = (torch.randn(heads, tokens, WIDTH, dtype=dtype) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    grad = torch.randn(tokens, HEADS, WIDTH, dtype=dtype)
    scaling = WIDTH**-0.5

    def blocks(some: Sequence[Segment] = parts) -> None:
        _, kept = tree_forward(q, k, v, some, scaling, True)
        tree_backward(grad, q, k, v, some, scaling, kept)

    leaves = [tensor.clone().requires_grad_(True) for tensor in (q, k, v)]

    def sdpa() -> None:
        torch.autograd.grad(torch.cat(list(_sdpa(*leaves, parts))), leaves, grad)

    yield Comparison("attention: SDPA on each span → folded blocks with a backward of their own", True, sdpa, blocks)
    yield Comparison(
        "attention: probabilities computed again in backward → kept", True, _with("KEPT_KEYS", 0, blocks), blocks
    )
    for size in (64, 256, 512):
        yield Comparison(
            f"attention: blocks of 128 queries → {size}", False, blocks, _with("QUERY_BLOCK", size, blocks)
        )
    pool = ThreadPoolExecutor(2, initializer=lambda: torch.set_num_threads(1))
    halves = parts[0::2], parts[1::2]
    yield Comparison(
        "attention: all cores in each product → a Python thread for each half of the rows",
        False,
        blocks,
        lambda: list(pool.map(blocks, halves)),
    )


def _sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, parts: Sequence[Segment]) -> Iterator[torch.Tensor]:
    """[n, heads, width] of each segment, by PyTorch's own attention."""
    attend = torch.nn.functional.scaled_dot_product_attention
    k, v = (tensor.repeat_interleave(HEADS // KEY_HEADS, 0) for tensor in (k, v))
    for part in parts:
        own, (first, last) = slice(part.start, part.end), part.prefix
        if first == last:
            out = attend(q[None, :, own], k[None, :, own], v[None, :, own], is_causal=True)
        else:
            keys, values = (torch.cat([t[:, first:last], t[:, own]], 1)[None] for t in (k, v))
            n = part.end - part.start
            mask = torch.ones(n, last - first + n, dtype=torch.bool).tril_(last - first)
            out = attend(q[None, :, own], keys, values, attn_mask=mask)
        yield out[0].transpose(0, 1)


def _with(name: str, value: int, call: Call, module: Any = cpu) -> Call:
    """The call, with another value of a module's constant."""

    def run() -> None:
        kept = getattr(module, name)
        setattr(module, name, value)
        try:
            call()
        finally:
            setattr(module, name, kept)

    return run


# ---- head


def head_pieces(dtype: torch.dtype) -> Iterator[Comparison]:
    hidden = torch.randn(TARGETS, HIDDEN).requires_grad_(True)
    weight = (torch.randn(VOCABULARY, HIDDEN) * 0.05).requires_grad_(True)
    targets = torch.randint(0, VOCABULARY, (TARGETS,))
    grad = torch.randn(TARGETS)

    def ours(*leaves: torch.Tensor) -> None:
        logps = head.plain_head_logps(hidden, weight, None, targets, dtype)
        torch.autograd.grad(logps, leaves, grad)

    def dense(*leaves: torch.Tensor) -> None:
        with autocast(dtype):
            logits = hidden @ weight.T
        torch.autograd.grad(dense_logps(logits, targets), leaves, grad)

    def both() -> None:
        ours(hidden, weight)

    yield Comparison("head: all logits and log_softmax → in pieces", True, lambda: dense(hidden, weight), both)
    yield Comparison(
        "head: softmax computed again for the weight's gradient → kept",
        True,
        _with("KEPT_BYTES", 0, both, head),
        both,
    )
    frozen = weight.detach()

    def only_hidden() -> None:
        logps = head.plain_head_logps(hidden, frozen, None, targets, dtype)
        torch.autograd.grad(logps, hidden, grad)

    yield Comparison("head: weight trains → weight is frozen (LoRA)", True, both, only_hidden)


# ---- layers


def layer_pieces(dtype: torch.dtype) -> Iterator[Comparison]:
    run = partial(step, dtype=dtype)
    stock, ours = tiny_stack(fuse=False), tiny_stack(fuse=True)
    yield Comparison("four layers, all weights: stock → fused", True, partial(run, stock), partial(run, ours))
    stock, ours = _with_lora(tiny_stack(fuse=False)), _with_lora(tiny_stack(fuse=True))
    yield Comparison("four layers, LoRA: stock → fused", True, partial(run, stock), partial(run, ours))


def tiny_stack(*, fuse: bool) -> Any:
    """Four of SmolLM2's layers under a small head."""
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=4,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
    )
    model: Any = LlamaForCausalLM(config)
    model.set_attn_implementation(TREE)
    install(model, head_of(model))
    if fuse and len(apply_fused(model)) != config.num_hidden_layers:
        raise RuntimeError("the layers are not recognised: both ways would be the same")
    return model


def _with_lora(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=16, target_modules="all-linear"))


def step(model: Any, *, dtype: torch.dtype) -> None:
    """Forward and backward of the pairs in this precision, as a training step runs them."""
    batch = pairs()
    with autocast(dtype):
        scores = model(**batch.model_inputs())
    scores.logps.sum().backward()
    model.zero_grad()


def pairs() -> Batch:
    """The pairs as one packed row of random tokens."""
    random = np.random.default_rng(0)

    def ids(count: int) -> Any:
        return random.integers(0, 256, count).astype(np.int32)

    def answer(count: int) -> EncodedCompletion:
        return EncodedCompletion(ids(count), np.ones(count, dtype=bool))

    groups = [EncodedGroup("pair", ids(prompt), tuple(map(answer, answers))) for prompt, *answers in PAIRS]
    return pack(groups)


# ---- products


def products(dtype: torch.dtype) -> Iterator[Comparison]:
    x = torch.randn(layout().tokens, HIDDEN, dtype=dtype)
    gate, up = (torch.randn(INNER, HIDDEN, dtype=dtype) for _ in range(2))
    both = torch.cat([gate, up])
    yield Comparison(
        "products: gate and up apart → as one", False, lambda: (x @ gate.T, x @ up.T), lambda: (x @ both.T).chunk(2, -1)
    )
    q, k, v = (torch.randn(n * WIDTH, HIDDEN, dtype=dtype) for n in (HEADS, KEY_HEADS, KEY_HEADS))
    three = torch.cat([q, k, v])
    sizes = [len(q), len(k), len(v)]
    yield Comparison(
        "products: q, k and v apart → as one",
        False,
        lambda: (x @ q.T, x @ k.T, x @ v.T),
        lambda: (x @ three.T).split(sizes, -1),
    )


if __name__ == "__main__":
    sys.exit(main())
