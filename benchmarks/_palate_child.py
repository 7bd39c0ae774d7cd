"""palate's side of a comparison: one task in a process of its own, through the path that `palate train` takes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from _measure import Job, Report, child_job, peak_bytes
from _pairs import exact_rows, numbered_rows, short_pairs, small_tokenizer, write_jsonl
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from palate.artifacts import read_jsonl
from palate.config.load import config_from_values
from palate.data import load_records
from palate.models.loading.load import load_model, load_tokenizer
from palate.models.loading.resolve import resolve_name
from palate.models.loading.save import save_pretrained
from palate.models.tuning.trainable import untie_head
from palate.records import PreferencePair
from palate.text.encode import encode_records
from palate.text.groups import EncodedGroup
from palate.text.template import Template, load_template
from palate.training.run import train
from palate.training.setup.session import prepare
from palate.training.steps import StepOrder
from palate.training.trainer import PalateTrainer


def main() -> None:
    job, report_file = child_job()
    report = TASKS[job["do"]](job)
    report_file.write_text(json.dumps(report), encoding="utf-8")


def make_pairs(job: Job) -> Report:
    """Write the shortened pairs to `job["pairs"]`, and, where asked for, the model with its head untied."""
    template = _template(job["model"])
    rows = short_pairs(
        Path(job["source"]),
        template,
        rows=job["rows"],
        cutoff_len=job["cutoff_len"],
        prompt_ratio=job["prompt_ratio"],
    )
    write_jsonl(Path(job["pairs"]), rows)
    folder = resolve_name(job["model"])
    if job["untied"]:
        model: Any = load_model(folder, device=torch.device("cpu"))
        untie_head(model)
        folder = job["untied"]
        save_pretrained(model, folder)
        template.tokenizer.save_pretrained(folder)
    return {"model": folder}


def make_rows(job: Job) -> Report:
    """Write rows of one exact length to `job["pairs"]`."""
    template = _template(job["model"])
    rows = exact_rows(
        Path(job["source"]),
        template,
        rows=job["rows"],
        length=job["length"],
        completions=job["completions"],
    )
    write_jsonl(Path(job["pairs"]), rows)
    return {"model": resolve_name(job["model"])}


def make_many(job: Job) -> Report:
    """Write any number of different rows: those of `job["source"]` again and again, each with its own number."""
    records = load_records(job["source"], kind=PreferencePair).records
    write_jsonl(Path(job["pairs"]), numbered_rows(records, job["rows"]))
    return {}


def make_tiny(job: Job) -> Report:
    """A small random Llama with a tokenizer of its own, trained on the source's texts."""
    records = load_records(job["source"], kind=PreferencePair).records
    tokenizer = small_tokenizer(record.chosen[-1].content for record in records)
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    save_pretrained(AutoModelForCausalLM.from_config(config), job["model"])
    tokenizer.save_pretrained(job["model"])
    return {}


def make_enlarged(job: Job) -> Report:
    """The source model with more rows in its embedding and head, which no text uses and every softmax runs over."""
    model: Any = load_model(job["source"], device=torch.device("cpu"))
    model.resize_token_embeddings(job["vocabulary"], mean_resizing=False)
    save_pretrained(model, job["model"])
    load_tokenizer(job["source"]).save_pretrained(job["model"])
    return {}


def locate(job: Job) -> Report:
    """The folder of a model's name."""
    return {"model": resolve_name(job["model"])}


def describe(job: Job) -> Report:
    """What a run of this config trains and on what: token ids, order of rows, names; and where an adapter starts."""
    config = config_from_values(job["config"]).config
    session = prepare(config)
    parameters = {name: p for name, p in session.policy.model.named_parameters() if p.requires_grad}
    if job.get("start"):
        save_file({name: p.detach().contiguous() for name, p in parameters.items()}, job["start"])
    order = StepOrder(len(session.data.train), 1, config.data_seed if config.data_seed is not None else config.seed)
    orders = []
    for epoch in range(int(config.num_train_epochs)):
        order.set_epoch(epoch)
        orders.append(list(order))
    return {
        "rows": [_ids(group) for group in session.data.train],
        "orders": orders,
        "trainable": sorted(parameters),
        "trainable_parameters": session.policy.trainable,
        "identity": session.policy.identity,
        "attention": "tree" if session.policy.probe.packed else "padded",
    }


def train_once(job: Job) -> Report:
    """A whole run, and what its own run.json says of it."""
    config = config_from_values(job["config"]).config
    used: list[float] = []
    with patch.object(PalateTrainer, "train", _timed(PalateTrainer.train, used)):
        result = train(config)
    peak = peak_bytes()
    facts = json.loads((result.output_dir / "run.json").read_text(encoding="utf-8"))
    report = json.loads((result.output_dir / "data.json").read_text(encoding="utf-8"))
    rows = [row for row in read_jsonl(result.output_dir / "metrics.jsonl") if row["split"] == "train"]
    return {
        "seconds": facts["timings"]["reference"] + facts["timings"]["train"],
        "timings": facts["timings"],
        "train_cpu_seconds": sum(used),
        "memory": facts["memory"],
        "peak_bytes": peak,
        "steps": [{name: row.get(name) for name in ("loss", "logps/chosen", "logps/rejected")} for row in rows],
        "trainable_parameters": facts["model"]["trainable_parameters"],
        "identity": facts["model"]["identity"],
        "groups": facts["data"]["train_groups"],
        "tokens_per_group": report["tokens"]["train"]["packed"] / facts["data"]["train_groups"],
        "threads": torch.get_num_threads(),
        "versions": facts["versions"],
    }


def _timed(function: Callable[..., Any], used: list[float]) -> Callable[..., Any]:
    """The function, which adds the seconds of the processor that each call takes to `used`."""

    def run(*args: Any, **kwargs: Any) -> Any:
        begin = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            used.append(time.process_time() - begin)

    return run


def compare_ways(job: Job) -> Report:
    """Cosine between the changes that two trainings made to the same weights.

    `job` names where both started, palate's folder, and TRL's file, whose tensors are those that trained.
    """
    start, ours, theirs = (_tensors(Path(job[name])) for name in ("start", "ours", "theirs"))
    product = squares = squares_of_theirs = 0.0
    for name, end in theirs.items():
        a, b = ((tensors[name].double() - start[name].double()).flatten() for tensors in (ours, {name: end}))
        product += float(a @ b)
        squares += float(a @ a)
        squares_of_theirs += float(b @ b)
    length = (squares * squares_of_theirs) ** 0.5
    return {"tensors": len(theirs), "cosine": product / length if length else 0.0}


def _tensors(place: Path) -> dict[str, torch.Tensor]:
    """A file's tensors, or those of a folder's files; an adapter's under the names that it has when it is saved."""
    files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
    return {name.replace(".default.", "."): tensor for file in files for name, tensor in load_file(file).items()}


def prepare_rows(job: Job) -> Report:
    """Rows of a file to token ids: seconds of reading and of encoding."""
    template = _template(job["model"])
    begin = time.monotonic()
    loaded = load_records(job["pairs"], kind=PreferencePair)
    read = time.monotonic()
    encoded = encode_records(loaded.records, template, cutoff_len=job["cutoff_len"])
    end = time.monotonic()
    return {
        "rows": len(loaded.records),
        "groups": len(encoded.groups),
        "read_seconds": read - begin,
        "encode_seconds": end - read,
        "seconds": end - begin,
        "peak_bytes": peak_bytes(),
        "tokenizers_parallelism": os.environ.get("TOKENIZERS_PARALLELISM"),
        "ids": [_ids(group) for group in encoded.groups[: job.get("show", 0)]],
    }


def _template(model: str) -> Template:
    return load_template(load_tokenizer(model), None)


def _ids(group: EncodedGroup) -> dict[str, Any]:
    """A group as plain lists; the trained tokens must be a completion's first ones, since TRL's mask has no gaps."""
    answers: Sequence[list[int]] = [completion.ids[completion.trained].tolist() for completion in group.completions]
    for ids, completion in zip(answers, group.completions):
        assert completion.ids[: len(ids)].tolist() == ids, f"{group.id}: an untrained token stands before a trained one"
    return {"prompt": group.prompt_ids.tolist(), "completions": answers}


TASKS: dict[str, Callable[[Job], Report]] = {
    "make_pairs": make_pairs,
    "make_rows": make_rows,
    "make_many": make_many,
    "make_tiny": make_tiny,
    "make_enlarged": make_enlarged,
    "locate": locate,
    "describe": describe,
    "train": train_once,
    "compare_ways": compare_ways,
    "prepare_rows": prepare_rows,
}

if __name__ == "__main__":
    main()
