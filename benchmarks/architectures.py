"""Which architectures train on packed rows, by which attention, and with which adapters. `make compat`.

    python benchmarks/architectures.py                         prints the table
    python benchmarks/architectures.py docs/architectures.md   and writes it into the page
    python benchmarks/architectures.py llama phi               some of them

Each is a tiny random model of transformers' own class. Its losses and gradients on packed rows are compared with those
on padded rows: of all weights, and of the matrices of each kind of adapter. Where rows cannot be packed, the reason is
stated, and padded rows together are compared with each row alone. The last column is what a CUDA GPU would be offered:
the kernels are replaced as in `_attention`. The exit code is 1 where something differs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from _attention import VOCABULARY, eager_kernel, flex_backward, random_groups, spans_only
from tables import fill, markdown
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from palate.errors import PalateError
from palate.models.attention.kernels import kernels_of
from palate.models.precision import BF16
from palate.models.probe.probe import Probe, probe
from palate.models.scoring.logps import per_completion
from palate.models.tuning.trainable import add_lora
from palate.text.batch import Batch, pack, pad
from palate.text.groups import EncodedGroup

BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
WINDOWED = {**BASE, "sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {**BASE, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
ROTARY = {"rope_type": "default", "rope_theta": 1e4}
# Name → transformers' model type and config.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", BASE),
    "Qwen 2": ("qwen2", BASE),
    "Qwen 3": ("qwen3", BASE),
    "Mistral": ("mistral", {**BASE, "sliding_window": 7}),
    "Gemma 2": ("gemma2", WINDOWED),
    "Gemma 3": ("gemma3_text", WINDOWED),
    "Phi": ("phi", {**BASE, "num_key_value_heads": 4}),
    "Phi 3": ("phi3", BASE),
    "GPT-2": ("gpt2", {**BASE, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
    "SmolLM3": ("smollm3", {**BASE, "no_rope_layers": [1, 0]}),
    "OLMo 2": ("olmo2", BASE),
    "gpt-oss": ("gpt_oss", {**WINDOWED, "num_local_experts": 4, "num_experts_per_tok": 2, "rope_parameters": ROTARY}),
    "Qwen 3 MoE": ("qwen3_moe", EXPERTS),
    "Mixtral": ("mixtral", {**BASE, "num_local_experts": 4}),
    "Qwen 3.5 (hybrid)": ("qwen3_5_text", {**BASE, "layer_types": ["linear_attention", "full_attention"]}),
    "LFM2 (hybrid)": ("lfm2", {**BASE, "layer_types": ["conv", "full_attention"]}),
}
ADAPTERS: dict[str, dict[str, bool]] = {"LoRA": {}, "DoRA": {"dora": True}, "rsLoRA": {"rslora": True}}
# Of a loss, and of a gradient's norm.
LIMIT = 1e-4
# Their scores are computed by their own attention only: soft caps, sinks.
EAGER = ("gemma2", "gpt_oss")
HEADER = ["architecture", "rows on a CPU", "all weights", *ADAPTERS, "on CUDA"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Architectures: packed or padded rows, adapters.")
    parser.add_argument("names", nargs="*", help="a page whose table is replaced, or words of names")
    options = parser.parse_args()
    pages = [Path(name) for name in options.names if name.endswith(".md")]
    words = [name.lower() for name in options.names if not name.endswith(".md")]
    chosen = [name for name in ARCHITECTURES if not words or any(word in name.lower() for word in words)]
    if not chosen or (pages and words):
        parser.error("no such architecture" if not chosen else "a page has all architectures; leave the names out")
    rows = [row(name) for name in chosen]
    table = markdown(HEADER, rows)
    print(table)
    for page in pages:
        page.write_text(fill(page.read_text(encoding="utf-8"), {"architectures": table}), encoding="utf-8")
    return 1 if any("differs" in cell for cells in rows for cell in cells) else 0


def row(name: str) -> list[str]:
    """The cells of one architecture."""
    kind, values = ARCHITECTURES[name]
    model = tiny(kind, values)
    found = probe(model)
    cells = [name, "packed" if found.packed else f"padded: {found.reason}", compared(model, kind, found)]
    for options in ADAPTERS.values():
        model = tiny(kind, values)
        found = probe(model)
        try:
            adapted = add_lora(model, rank=4, alpha=8, **options)
        except (PalateError, ValueError, NotImplementedError) as error:
            cells.append(f"refused: {str(error).splitlines()[0]}")
            continue
        # A new adapter adds nothing, and half of its matrices would have no gradient.
        with torch.no_grad():
            for parameter_name, parameter in adapted.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.normal_(0.0, 0.1)
        cells.append(compared(adapted, kind, found))
    return [*cells, on_cuda(kind, values)]


def on_cuda(kind: str, values: dict[str, Any]) -> str:
    """The form of attention that `attention: auto` would select in bf16."""
    with contextlib.ExitStack() as stack:
        for one in (eager_kernel(), spans_only(), flex_backward()):
            stack.enter_context(one)
        found = probe(tiny(kind, values), kernels=kernels_of("auto", torch.device("cuda")), precision=BF16)
    return found.attention.partition(" ")[0].rstrip(":")


def tiny(kind: str, values: dict[str, Any]) -> Any:
    """A random model whose weights are so large that its outputs differ from token to token, without dropout."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = AutoConfig.for_model(kind, **values)
        for name in ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout", "resid_dropout"):
            if hasattr(config, name):
                setattr(config, name, 0.0)
        model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.15)
    return model.eval()


def compared(model: Any, kind: str, found: Probe) -> str:
    """`equal`, or by how much losses or gradients differ: packed and padded rows, or padded rows and each row alone."""
    groups = random_groups(2)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if found.packed:
        ours = loss_and_gradient(model, [pack(groups)])
        base.set_attn_implementation("eager" if kind in EAGER else "sdpa")
        theirs = loss_and_gradient(model, [pad(groups)])
    else:
        ours = loss_and_gradient(model, [pad(groups)])
        theirs = loss_and_gradient(model, [pad([one]) for group in groups for one in _alone(group)])
    loss = abs(ours[0] - theirs[0]) / abs(theirs[0])
    gradient = float((ours[1] - theirs[1]).norm() / theirs[1].norm())
    if loss <= LIMIT and gradient <= LIMIT:
        return "equal"
    return f"differs: loss by {loss:.1e}, gradients by {gradient:.1e}"


def _alone(group: EncodedGroup) -> Sequence[EncodedGroup]:
    return [replace(group, completions=(completion,)) for completion in group.completions]


def loss_and_gradient(model: Any, batches: Sequence[Batch]) -> tuple[float, torch.Tensor]:
    """A loss of all completions with unequal weights, and the gradient of what trains as one vector."""
    model.zero_grad()
    sums = torch.cat([per_completion(model(**batch.model_inputs()), batch).sums for batch in batches])
    weights = 1.0 + torch.arange(len(sums)) * 0.618 % 1.0
    loss = -(functional.logsigmoid(0.1 * sums) * weights).mean()
    loss.backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    gradient = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in trained])
    return float(loss.detach()), gradient


if __name__ == "__main__":
    sys.exit(main())
