"""What both sides of the GPU benchmark share: a random model without files, and the clock of each step."""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback

# Llama-3.2-1B and Llama-3.1-8B; the last one is for dry runs.
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {"hidden": 2048, "inner": 8192, "layers": 16, "heads": 32, "key_heads": 8, "words": 128256, "tied": True},
    "8B": {"hidden": 4096, "inner": 14336, "layers": 32, "heads": 32, "key_heads": 8, "words": 128256, "tied": False},
    "dry": {"hidden": 64, "inner": 96, "layers": 3, "heads": 4, "key_heads": 2, "words": 400, "tied": True},
}


def llama_config(size: str) -> Any:
    shape = SHAPES[size]
    return AutoConfig.for_model(
        "llama",
        vocab_size=shape["words"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["key_heads"],
        tie_word_embeddings=shape["tied"],
        max_position_embeddings=8192,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def random_model(size: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The same random numbers on both sides; all of them are bf16 numbers, whatever the dtype that holds them."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(llama_config(size), dtype=torch.bfloat16)
    return model.to(dtype)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int:
    """Most memory that tensors took on the device since the last reset; 0 on a CPU."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


class StepClock(TrainerCallback):
    """Seconds of each step, and the peak memory from the first step on."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        wait(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        wait(self.device)
        self._begin = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wait(self.device)
        self.seconds.append(time.perf_counter() - self._begin)


def free(device: torch.device) -> None:
    """Give memory of a finished run back to the device."""
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
