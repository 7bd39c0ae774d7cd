"""Tiny random models, tokenizers and groups: what unit tests run on, in seconds and without files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from palate.config.load import config_from_values
from palate.text.groups import EncodedCompletion, EncodedGroup
from palate.training.methods import build_method

VOCABULARY = 199
_BASE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
}
_SMALL_IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}

PACKED: dict[str, dict[str, Any]] = {
    "llama": {**_BASE, "tie_word_embeddings": True},
    "qwen2": _BASE,
    "gpt2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512, **_SMALL_IDS},
    "mistral": {**_BASE, "sliding_window": 5},
    "gemma2": {**_BASE, "head_dim": 8, "sliding_window": 6},
    "phi": {**_BASE, "num_key_value_heads": 4},
    "deepseek_v3": {
        **_BASE,
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "first_k_dense_replace": 3,
    },
    "gpt_oss": {
        **_BASE,
        "head_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
}
"""What tree attention expresses: Llama-, Qwen- and GPT-2-like models, three with a sliding window, one softcapped, one
whose values are narrower than its keys, one with attention sinks."""

EAGER = {"gemma2", "gpt_oss"}
"""Those whose scores only their own attention computes."""

PADDED: dict[str, dict[str, Any]] = {
    "bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4, **_SMALL_IDS},
    "qwen3_5_text": {
        **_BASE,
        "head_dim": 8,
        "num_hidden_layers": 2,
        "layer_types": ["linear_attention", "full_attention"],
    },
}
"""Architectures that it cannot: one with ALiBi, one hybrid with a recurrent layer."""

LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
BY_LENGTH: dict[str, dict[str, Any]] = {
    "phi3": {**_BASE, "rope_parameters": LONGROPE, "original_max_position_embeddings": 64},
    "hunyuan_v1_dense": {
        **_BASE,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    },
}
"""Those whose rotary positions change beyond 64 tokens: LongRoPE, and dynamic NTK scaling."""

OTHERS: dict[str, dict[str, Any]] = {
    "mixtral": {**_BASE, "num_local_experts": 4},
    "opt": {**_BASE, "ffn_dim": 48, "word_embed_proj_dim": 32},
}
"""One with experts, one with learned positions."""


def tiny_model(kind: str = "llama", *, seed: int = 0, std: float = 0.2) -> Any:
    """A random causal LM in eval mode with weights large enough that its outputs differ from token to token."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **{**PACKED, **PADDED, **BY_LENGTH, **OTHERS}[kind])
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, std, generator=generator)
    for part in (model.config, model.config.get_text_config()):
        for name in ("attention_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout"):
            if hasattr(part, name):
                setattr(part, name, 0.0)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.eval()


def random_groups(
    count: int,
    completions: int = 2,
    *,
    seed: int = 0,
    prompt: tuple[int, int] = (3, 12),
    answer: tuple[int, int] = (2, 9),
) -> list[EncodedGroup]:
    """Groups of random tokens; in some completions a few tokens in the middle are not trained."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> np.ndarray:
        return random.integers(3, VOCABULARY, int(random.integers(low, high + 1))).astype(np.int32)

    def completion() -> EncodedCompletion:
        tokens = ids(*answer)
        trained = np.ones(len(tokens), dtype=bool)
        if len(tokens) > 4 and random.random() < 0.5:
            trained[1:3] = False
        return EncodedCompletion(tokens, trained)

    return [
        EncodedGroup(f"row:{i + 1}", ids(*prompt), tuple(completion() for _ in range(completions)))
        for i in range(count)
    ]


def stock_score(model: Any, group: EncodedGroup, answer: int) -> float:
    """Σ log π of an answer's trained tokens by transformers alone."""
    completion = group.completions[answer]
    ids = torch.tensor([*group.prompt_ids.tolist(), *completion.ids.tolist()])
    with torch.no_grad():
        logps = model.eval()(ids[None]).logits[0].log_softmax(-1)
    start = len(group.prompt_ids)
    places = [start + i for i, trained in enumerate(completion.trained) if trained]
    return float(sum(logps[place - 1, ids[place]] for place in places))


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tiny_tokenizer(
    *, template: bool = True, texts: Sequence[str] | None = None, size: int = 320
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that can spell any text, learnt from `texts`: the more tokens, the shorter their rows."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        texts or ["the answer is that it is not, and this is a question of what was said"] * 4, trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    if template:
        fast.chat_template = CHATML
    return fast


def save_tiny(
    folder: Path,
    kind: str = "llama",
    *,
    seed: int = 0,
    template: bool = True,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **changed: Any,
) -> Path:
    """A model folder as a user has one: config, safetensors, tokenizer."""
    tokenizer = tokenizer or tiny_tokenizer(template=template)
    ids = {"bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    values = {**{**PACKED, **PADDED, **BY_LENGTH, **OTHERS}[kind], "vocab_size": len(tokenizer), **ids, **changed}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def method_of(stage: str, **keys: Any) -> Any:
    """The method of a config with these keys, without a model or data."""
    needed = {"model_name_or_path": "m", "dataset": "d", "output_dir": "o", "stage": stage}
    return build_method(config_from_values({**needed, **keys}).config)
