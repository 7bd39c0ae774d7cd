"""TRL's side of a comparison, in TRL's own environment: `DPOTrainer` as its users run it, on given rows.

What differs from a plain script is only what makes the two sides comparable: token ids, order of rows and start of the
adapter are those of palate, and each step's loss is kept before the log rounds it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import peft
import torch
import transformers
import trl
from _measure import Job, Report, child_job, peak_bytes
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer


def main() -> None:
    job, report_file = child_job()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    datasets.disable_caching()
    report = TASKS[job["do"]](job)
    report_file.write_text(json.dumps(report), encoding="utf-8")


class GivenOrder(torch.utils.data.Sampler[int]):
    """The rows of each epoch in a given order; remembers what it handed out."""

    def __init__(self, orders: Sequence[Sequence[int]]) -> None:
        self._orders = orders
        self.seen: list[list[int]] = []

    def __len__(self) -> int:
        return len(self._orders[0])

    def __iter__(self) -> Iterator[int]:
        self.seen.append([])
        for row in self._orders[len(self.seen) - 1]:
            self.seen[-1].append(row)
            yield row


class Trainer(DPOTrainer):
    """DPOTrainer on rows that are tokenised already."""

    def __init__(self, order: GivenOrder, **kwargs: Any) -> None:
        self.order = order
        self.losses: list[float] = []
        super().__init__(**kwargs)

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def _get_train_sampler(self, *_: Any) -> GivenOrder:
        return self.order

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.losses.append(loss.item())
        return loss


def train_once(job: Job) -> Report:
    """Seconds and peak memory of `trainer.train()`, the loss of each step, and what was trained on."""
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    if job["trainable"] is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in job["trainable"])
    trainer = Trainer(
        GivenOrder(job["orders"]),
        model=model,
        args=_arguments(job),
        train_dataset=_dataset(job["rows"]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=_adapter(job),
    )
    names = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    if job["start"]:
        _start_from(names, Path(job["start"]))
    begin = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - begin
    peak = peak_bytes()
    save_file({name: p.detach().contiguous() for name, p in names.items()}, job["end"])
    logged = [row for row in trainer.state.log_history if "logps/chosen" in row]
    return {
        "seconds": seconds,
        "peak_bytes": peak,
        "steps": [
            {"loss": loss, **{name: row[name] for name in ("logps/chosen", "logps/rejected")}}
            for loss, row in zip(trainer.losses, logged, strict=True)
        ],
        "trainable": sorted(names),
        "trainable_parameters": sum(p.numel() for p in names.values()),
        "rows": [
            {"prompt": row["prompt_ids"], "completions": [row["chosen_ids"], row["rejected_ids"]]}
            for row in trainer.train_dataset
        ],
        "orders": trainer.order.seen,
        "threads": torch.get_num_threads(),
        "versions": _versions(),
    }


def tokenise(job: Job) -> Report:
    """Seconds that TRL's own preparation of conversational rows takes, from rows that are in memory already."""
    with Path(job["pairs"]).open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    dataset = datasets.Dataset.from_list(rows)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    # Only the preparation is wanted, and it needs nothing of a trainer but the tokenizer.
    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer._tokenizer = tokenizer
    arguments = DPOConfig(
        output_dir=job["folder"],
        use_cpu=True,
        bf16=False,
        max_length=job["cutoff_len"],
        dataset_num_proc=job["workers"] if job["workers"] > 1 else None,
    )
    begin = time.monotonic()
    prepared = trainer._prepare_dataset(dataset, tokenizer, arguments, "train")
    seconds = time.monotonic() - begin
    shown = prepared.select(range(min(job.get("show", 0), len(prepared))))
    return {
        "rows": len(rows),
        "groups": len(prepared),
        "seconds": seconds,
        "peak_bytes": peak_bytes(),
        "ids": [{"prompt": r["prompt_ids"], "completions": [r["chosen_ids"], r["rejected_ids"]]} for r in shown],
    }


def _arguments(job: Job) -> DPOConfig:
    return DPOConfig(
        output_dir=job["folder"],
        use_cpu=job.get("use_cpu", True),
        bf16=job["precision"] == "bf16",
        gradient_checkpointing=False,
        max_length=job["cutoff_len"],
        beta=job["beta"],
        per_device_train_batch_size=job["batch"],
        num_train_epochs=job["epochs"],
        learning_rate=job["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        seed=job["seed"],
        logging_steps=1,
        logging_first_step=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _adapter(job: Job) -> peft.LoraConfig | None:
    if not job["lora_rank"]:
        return None
    return peft.LoraConfig(
        r=job["lora_rank"],
        lora_alpha=2 * job["lora_rank"],
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _start_from(parameters: dict[str, torch.nn.Parameter], file: Path) -> None:
    """Give an adapter the random numbers that palate's has, under the same names."""
    start = load_file(file)
    if start.keys() != parameters.keys():
        raise SystemExit(f"the trainable parameters differ: {sorted(start.keys() ^ parameters.keys())[:4]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(start[name])


def _dataset(rows: Sequence[dict[str, Any]]) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [
            {"prompt_ids": row["prompt"], "chosen_ids": row["completions"][0], "rejected_ids": row["completions"][1]}
            for row in rows
        ]
    )


def _versions() -> dict[str, str]:
    modules = (trl, transformers, torch, peft, datasets)
    return {module.__name__: str(module.__version__) for module in modules}


TASKS: dict[str, Callable[[Job], Report]] = {"train": train_once, "tokenise": tokenise}

if __name__ == "__main__":
    main()
