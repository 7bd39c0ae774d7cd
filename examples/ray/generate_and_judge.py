"""Answers and votes of many machines over Ray Data: each task makes one shard, and the shards are joined at the end.

    python examples/ray/generate_and_judge.py prompts.jsonl out --model qwen3-8b \
        --base-url http://10.0.0.1:8000/v1,http://10.0.0.2:8000/v1 --judge openai:judge@http://10.0.0.3:8000/v1

OUT must be a folder that all machines see under the same path. A task that is started again, by Ray or by a second
run of this command, continues its shard; finished rows are not asked for again. The result is the same for any number
of workers. Needs `pip install "ray[data]"` where palate is installed; `ray.init` joins the cluster of RAY_ADDRESS.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import ray

import palate


def make_shard(row: dict[str, Any]) -> dict[str, Any]:
    """The answers and votes of one shard; Ray Data calls this in a worker."""
    candidates = Path(row["folder"], f"candidates-{row['number']}.jsonl")
    votes = candidates.with_name(f"votes-{row['number']}.jsonl")
    made = palate.generate(
        row["prompts"],
        row["model"],
        row["k"],
        output=candidates,
        base_url=row["base_url"] or None,
        shard=f"{row['number']}/{row['shards']}",
        max_new_tokens=row["max_new_tokens"],
    )
    voted = 0
    if row["judge"]:
        collected = palate.judge(made, row["judge"], votes)
        if collected.missing:
            raise RuntimeError(f"{votes}: {len(collected.missing)} verdicts are missing: {collected.missing[0][1]}")
        voted = len(collected.votes)
    worker = ray.get_runtime_context().get_worker_id()
    return {
        "number": row["number"],
        "worker": worker,
        "candidates": str(candidates),
        "votes": str(votes),
        "voted": voted,
    }


def main() -> None:
    """Run the shards on the cluster, then join them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--base-url", default="", help="default: each worker loads the model")
    parser.add_argument("--judge", default="", help="as palate judge --judge; default: no votes")
    parser.add_argument("--k", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2, help="shards that are worked on at the same time")
    given = parser.parse_args()
    # Ray's workers have another working folder.
    paths = {"folder": str(given.out.resolve()), "prompts": str(Path(given.prompts).resolve())}
    same = {**paths, "model": given.model, "base_url": given.base_url, "judge": given.judge, "k": given.k}
    same |= {"max_new_tokens": given.max_new_tokens, "shards": given.shards}
    rows = [{**same, "number": number} for number in range(1, given.shards + 1)]
    ray.init()
    shards = ray.data.from_items(rows, override_num_blocks=given.shards)
    done = shards.map(make_shard, concurrency=given.workers, num_cpus=1).take_all()
    done.sort(key=lambda row: row["number"])
    joined = given.out / "candidates.jsonl"
    count = palate.join_shards([row["candidates"] for row in done], joined)
    workers = len({row["worker"] for row in done})
    print(f"{joined}: {count} rows by {workers} workers")
    if given.judge:
        votes = given.out / "votes.jsonl"
        votes.write_text("".join(Path(row["votes"]).read_text() for row in done))
        print(f"{votes}: {sum(row['voted'] for row in done)} votes")


if __name__ == "__main__":
    main()
