"""Memory and time of data that does not fit into memory, and a run on it that is killed and resumed.

    python benchmarks/large_data.py --model smollm2-135m-instruct
    python benchmarks/large_data.py --simulated 10000 100000 --rows 20000 --shards 4

- Simulated: groups of a few tokens are written to a file, an epoch's order is drawn, and groups are read in this order,
  as a run does. Each size is a process of its own; its memory above that of the imports is what grows with the rows.
- Real: the pairs of `--source`, each with a number added and its texts cut to `--characters`, as sharded Parquet.
  `palate train` reads them, tokenises them with the tokenizer of `--model`, and trains a tiny model of two layers with
  SimPO, which needs no reference. One run trains all steps. Another one is killed with SIGKILL in the middle of the
  epoch and resumed; its weights must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from _measure import (
    MEBIBYTE,
    REPOSITORY,
    child_job,
    located,
    peak_bytes,
    positive,
    results_option,
    run_child,
    say,
    write_result,
)

SOURCE = REPOSITORY.parent / "shared" / "data" / "preference" / "ultrafeedback_1k_train.jsonl"
STEPS, CHECKPOINT, KILLED = 12, 4, 6
ROW_GROUP = 5000


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1].endswith(".json"):
        job, report = child_job()
        report.write_text(json.dumps(TASKS[job["do"]](job)), encoding="utf-8")
        return 0
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-large-", dir=options.folder) as folder:
        result = measure(options, Path(folder))
    path = write_result("large_data", located(result), options.results)
    say(f"written: {path}")
    return 0 if result.get("resumed", {}).get("same_weights", True) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--read", type=positive, default=1_000_000, help="groups of the order that are read, at most")
    parser.add_argument("--rows", type=int, default=1_000_000, help="real rows; 0 for none")
    parser.add_argument("--shards", type=positive, default=16)
    parser.add_argument("--characters", type=positive, default=400, help="longest text of a real row")
    parser.add_argument("--source", default=str(SOURCE))
    parser.add_argument("--model", default="smollm2-135m-instruct", help="whose tokenizer is used")
    parser.add_argument("--folder", type=Path, help="where the files are written; they are deleted at the end")
    results_option(parser)
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {"simulated": []}
    for rows in options.simulated:
        job = {"do": "simulate", "rows": rows, "read": min(rows, options.read), "folder": str(folder / "groups")}
        found = run_child(sys.executable, Path(__file__).name, job, folder)
        result["simulated"].append(found)
        written, read_back = rows / found["write_seconds"], found["read"] / found["read_seconds"]
        say(
            f"{rows:>11,} simulated rows: {found['grown_mib']:6.0f} MiB above the {found['start_mib']:.0f} of the "
            f"imports; written {written:,.0f}/s, read {read_back:,.0f}/s"
        )
    if options.rows:
        result["real"] = real(options, folder)
        result["resumed"] = resumed(options, folder)
    return result


def simulate(job: dict[str, Any]) -> dict[str, Any]:
    """Write groups, draw an epoch's order and read groups in it, all as a run does."""
    import shutil

    import numpy as np

    from palate.text.batch import pack
    from palate.text.group_file import GroupWriter, lengths_of
    from palate.text.groups import EncodedCompletion, EncodedGroup
    from palate.training.setup.memory import largest_batch
    from palate.training.steps import Groups, StepOrder

    rows, folder = job["rows"], Path(job["folder"])
    ids = np.random.default_rng(0).integers(0, 50_000, 4096).astype(np.int32)
    trained = np.ones(16, dtype=np.bool_)

    def group(number: int) -> EncodedGroup:
        start, length = number % 4000, 4 + number % 12
        answers = (ids[start : start + length], ids[start + 7 : start + 7 + length])
        completions = tuple(EncodedCompletion(answer, trained[: len(answer)]) for answer in answers)
        return EncodedGroup(f"shard:{number}", ids[start : start + 8], completions, 1.0, "shard")

    start_mib, begin = peak_bytes() / MEBIBYTE, time.monotonic()
    with GroupWriter(folder) as writer:
        writer.extend(map(group, range(rows)))
        groups = writer.close()
    wrote = time.monotonic()
    largest_batch(lengths_of(groups).packed, 8)
    dataset, tokens = Groups(groups), 0
    order = islice(StepOrder(len(dataset), 8, seed=1), job["read"])
    while step := [dataset[index] for index in islice(order, 8)]:
        tokens += pack(step).input_ids.numel()
    read = time.monotonic()
    size = sum(file.stat().st_size for file in folder.iterdir())
    shutil.rmtree(folder)
    return {
        "rows": rows,
        "read": job["read"],
        "tokens_read": tokens,
        "write_seconds": wrote - begin,
        "read_seconds": read - wrote,
        "file_mib": size / MEBIBYTE,
        "start_mib": start_mib,
        "grown_mib": peak_bytes() / MEBIBYTE - start_mib,
    }


def write_shards(job: dict[str, Any]) -> dict[str, Any]:
    """The source's pairs repeated, with a number before each prompt, as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from palate.data import load_records
    from palate.records import PreferencePair

    pairs = load_records(job["source"], kind=PreferencePair).records
    longest, rows, shards = job["characters"], job["rows"], job["shards"]
    texts = [[side[-1].content[:longest] for side in (pair.prompt, pair.chosen, pair.rejected)] for pair in pairs]
    texts = [row for row in texts if row[1] != row[2]]
    folder = Path(job["folder"])
    folder.mkdir()
    for shard in range(shards):
        numbers = range(rows * shard // shards, rows * (shard + 1) // shards)
        schema = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])
        with pq.ParquetWriter(folder / f"train-{shard:05}-of-{shards:05}.parquet", schema) as file:
            for start in range(numbers.start, numbers.stop, ROW_GROUP):
                part = [(n, texts[n % len(texts)]) for n in range(start, min(start + ROW_GROUP, numbers.stop))]
                columns = [[f"{n}. {row[0]}" for n, row in part], *([row[i] for _, row in part] for i in (1, 2))]
                file.write_table(pa.table(columns, schema=schema))
    return {"bytes": sum(file.stat().st_size for file in folder.iterdir())}


def write_model(job: dict[str, Any]) -> dict[str, Any]:
    """A Llama of two narrow layers with random weights and the tokenizer of a real model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from palate.models.loading.load import load_tokenizer

    tokenizer = load_tokenizer(job["model"])
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer), tie_word_embeddings=True, **sizes)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(job["folder"])
    tokenizer.save_pretrained(job["folder"])
    return {}


TASKS = {"simulate": simulate, "write_shards": write_shards, "write_model": write_model}


def real(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The first run on all real rows: from Parquet to the last step."""
    given = {"rows": options.rows, "shards": options.shards, "characters": options.characters}
    job = {"do": "write_shards", "source": options.source, "folder": str(folder / "shards"), **given}
    size = run_child(sys.executable, Path(__file__).name, job, folder)["bytes"]
    job = {"do": "write_model", "model": options.model, "folder": str(folder / "model")}
    run_child(sys.executable, Path(__file__).name, job, folder)
    say(f"{options.rows:,} rows written, {size / MEBIBYTE:,.0f} MiB of Parquet")
    begin = time.monotonic()
    train(folder, "whole").wait()
    run, data = read(folder / "whole" / "run.json"), read(folder / "whole" / "data.json")
    tokens = sum(file.stat().st_size for file in (folder / "tokens").rglob("*") if file.is_file())
    found = {
        **given,
        "parquet_mib": size / MEBIBYTE,
        "tokens_mib": tokens / MEBIBYTE,
        "read": data["rows"]["read"],
        "trained_tokens": data["tokens"]["train"]["trained"],
        "packed_tokens": data["tokens"]["train"]["packed"],
        "timings": run["timings"],
        "seconds": time.monotonic() - begin,
        "peak_mib": run["peak_memory_bytes"] / MEBIBYTE,
    }
    say(
        f"{found['read']:,} rows read and tokenised in {run['timings']['data']:,.0f} s, peak memory "
        f"{found['peak_mib']:,.0f} MiB, {found['tokens_mib']:,.0f} MiB of tokenised rows"
    )
    return found


def resumed(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The same run again, killed in the middle of the epoch and resumed."""
    del options
    process = train(folder, "killed")
    metrics = folder / "killed" / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or metrics.read_text().count("\n") < KILLED):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = metrics.read_text().count("\n")
    train(folder, "killed", "resume_from_checkpoint=true").wait()
    whole, killed = ((folder / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    timings = read(folder / "killed" / "run.json")["timings"]
    say(f"killed after step {at} of {STEPS}, resumed: the weights are {'the same' if whole == killed else 'DIFFERENT'}")
    return {"killed_after_step": at, "steps": STEPS, "same_weights": whole == killed, "timings": timings}


def train(folder: Path, name: str, *changed: str) -> subprocess.Popen[str]:
    keys = {
        "stage": "dpo",
        "pref_loss": "simpo",
        "model_name_or_path": folder / "model",
        "dataset": folder / "shards",
        "output_dir": folder / name,
        "finetuning_type": "full",
        "per_device_train_batch_size": 8,
        "max_steps": STEPS,
        "save_steps": CHECKPOINT,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "cutoff_len": 1024,
        "sample_prompts": 0,
        "health": "off",
        "report_to": "none",
    }
    config = folder / f"{name}.yaml"
    config.write_text(json.dumps({key: str(v) if isinstance(v, Path) else v for key, v in keys.items()}))
    command = [sys.executable, "-m", "palate", "train", str(config)]
    for pair in changed:
        command += ["--set", pair]
    place = {"PALATE_TOKENS": str(folder / "tokens"), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env={**os.environ, **place}, stdout=subprocess.DEVNULL, text=True)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


if __name__ == "__main__":
    sys.exit(main())
