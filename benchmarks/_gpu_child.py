"""palate's side of the GPU benchmark: facts of the machine, equality of attention, and whole training runs.

A run is that of `palate train`, with four differences, all outside the measured time: the model is random and made on
the device instead of being read, its weights are not hashed, the trained model is not written, and a clock is added.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from _attention import ALL, SOME, equality
from _flops import Flops, forward_flops, shape_of
from _gpu_model import StepClock, free, llama_config, peak_bytes, random_model, wait
from _measure import Job, Report, child_job
from _palate_child import _ids
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from palate.artifacts import read_json, read_jsonl
from palate.config.load import config_from_values
from palate.models.precision import default_device
from palate.text.groups import EncodedGroup
from palate.training import run as runs
from palate.training.setup import build
from palate.training.trainer import PalateTrainer

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "trl",
    "flash_attn",
    "liger_kernel",
    "bitsandbytes",
    "triton",
)
TEMPLATE = (
    "{% for message in messages %}{{ '<start> ' + message['role'] + ' ' + message['content'] + ' <end> ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start> assistant ' }}{% endif %}"
)
# Tokens that the template adds to a prompt and to an answer.
IN_PROMPT, IN_ANSWER = 5, 1
# The first steps compile and fill caches.
WARM_UP = 2


def main() -> None:
    job, report_file = child_job()
    report_file.write_text(json.dumps(TASKS[job["do"]](job)), encoding="utf-8")


def facts(job: Job) -> Report:
    """Versions, the device, and its measured peak of bf16 matrix products in FLOP/s."""
    device = default_device()
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    found: Report = {"device": device.type, "versions": versions, "cuda": torch.version.cuda}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        found |= {"name": properties.name, "memory_bytes": properties.total_memory, "capability": capability}
    return {**found, "peak_flops": _peak_flops(device, job["side"])}


def _peak_flops(device: torch.device, side: int) -> float:
    """FLOP/s of the best of some products of [side, side] matrices in bf16."""
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    best = float("inf")
    for _ in range(12):
        wait(device)
        begin = time.perf_counter()
        for _ in range(4):
            a @ b
        wait(device)
        best = min(best, (time.perf_counter() - begin) / 4)
    return 2 * side**3 / best


def attention(job: Job) -> Report:
    end = time.monotonic() + job["seconds"]
    cases = {"some": SOME, "all": ALL, "one": SOME[:1]}[job["cases"]]
    return {"rows": equality(default_device(), cases, left=lambda: end - time.monotonic()), "cases": len(cases)}


def make(job: Job) -> Report:
    """A folder with a config, a tokenizer of one token for each word, and pairs of exact lengths."""
    folder = Path(job["model"])
    config = llama_config(job["size"])
    config.save_pretrained(folder)
    _placeholder(folder)
    special = ["<start>", "<end>", "<pad>", "<unknown>"]
    words = [*special, "user", "assistant", *(f"w{number}" for number in range(config.vocab_size - len(special) - 2))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<start>", eos_token="<end>", pad_token="<pad>", unk_token="<unknown>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    for lengths in job["lengths"]:
        choose = random.Random(0)

        def text(tokens: int, choose: random.Random = choose) -> str:
            return " ".join(choose.choices(words[6 : 6 + 4096], k=tokens))

        prompt, answer = lengths["prompt"] - IN_PROMPT, lengths["answer"] - IN_ANSWER
        rows = [{"prompt": text(prompt), "chosen": text(answer), "rejected": text(answer)} for _ in range(job["pairs"])]
        Path(lengths["pairs"]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {}


def _placeholder(folder: Path) -> None:
    """Files that a folder of a model must have; they are never read."""
    save_file({"none": torch.zeros(1)}, folder / "model.safetensors")
    config = folder / "config.json"
    if not config.exists():
        config.write_text("{}", encoding="utf-8")


def train(job: Job) -> Report:
    """Each of `job["runs"]` in turn, as long as there is time; one that fails says why."""
    end = time.monotonic() + job["seconds"]
    found: list[Report] = []
    for run in job["runs"]:
        if time.monotonic() >= end:
            found.append({"name": run["name"], "error": "no time left"})
            continue
        try:
            found.append({"name": run["name"], **_train_once(job, run)})
        # The other runs of the benchmark are worth having without this one.
        except Exception as error:
            found.append({"name": run["name"], "error": f"{type(error).__name__}: {str(error)[:300]}"})
        free(default_device())
    return {"runs": found}


def _train_once(job: Job, run: Job) -> Report:
    device = default_device()
    clock = StepClock(device)
    seen: dict[str, Any] = {}

    def load(*_: Any, **__: Any) -> Any:
        model = random_model(job["size"], device, torch.float32)
        seen["shape"] = shape_of(model)
        return model

    class Timed(PalateTrainer):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.add_callback(clock)
            seen["groups"], seen["order"] = self.train_dataset.groups, list(self._get_train_sampler())

    config = config_from_values(run["config"]).config
    with _patched(load, Timed):
        result = runs.train(config)
    recorded = read_json(result.output_dir / "run.json")
    rows = [row for row in read_jsonl(result.output_dir / "metrics.jsonl") if row["split"] == "train"]
    batch = config.per_device_train_batch_size
    groups: list[EncodedGroup] = [seen["groups"][index] for index in seen["order"][: batch * len(clock.seconds)]]
    step = statistics.median(clock.seconds[WARM_UP:])
    reference = recorded["timings"]["reference"] / len(groups)
    per_pair = forward_flops(seen["shape"], groups) * (1 / len(groups))
    return {
        "attention": recorded["attention"],
        "pairs_per_second": batch / step,
        "pairs_per_second_with_reference": 1 / (step / batch + reference),
        "tokens_per_second": sum(group.packed_tokens for group in groups) / len(groups) * batch / step,
        "flops_per_second": _trained(per_pair, config, seen["shape"]) * batch / step,
        "peak_bytes": peak_bytes(device),
        "peak_with_loading_bytes": recorded["peak_memory_bytes"],
        "step_seconds": clock.seconds,
        "losses": [row["loss"] for row in rows],
        "logps": [row["logps/chosen"] for row in rows],
        "rows": [_ids(group) for group in groups],
    }


def _trained(forward: Flops, config: Any, shape: Any) -> float:
    """Operations of a pair's forward and backward pass, from those of its forward pass."""
    if config.finetuning_type == "full":
        return 3 * forward.total
    if config.finetuning_type == "lora":  # gradients of inputs only; the matrices of the adapter count for nothing
        return 2 * forward.total
    share = config.freeze_trainable_layers / shape.layers
    return forward.total + 2 * (forward.trunk + forward.attention) * share + 2 * forward.head


@contextlib.contextmanager
def _patched(load: Callable[..., Any], trainer: type[PalateTrainer]) -> Iterator[None]:
    with (
        mock.patch.object(build, "load_model", load),
        mock.patch.object(build, "model_hash", lambda _: "random"),
        mock.patch.object(runs, "publish", lambda folder, _: _placeholder(folder)),
        mock.patch.object(runs, "PalateTrainer", trainer),
    ):
        yield


TASKS: dict[str, Callable[[Job], Report]] = {"facts": facts, "attention": attention, "make": make, "train": train}

if __name__ == "__main__":
    main()
