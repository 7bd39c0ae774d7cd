"""Throughput and latency of `palate serve` against `transformers serve`, at 1, 4 and 16 streams.

    python benchmarks/serve.py                        both servers in turn, the same prompts, greedy answers
    python benchmarks/serve.py --sides palate         one of them
    python benchmarks/serve.py --batch                without servers: the batch against `generate`, one by one

Each server is started alone, gets one request first, and then as many clients as there are streams, each of which asks
its next prompt as soon as it has the answer to the last. Times are the client's, on the same machine. Answers are
greedy, so both sides write the same texts but for rounding; tokens are counted by the model's tokenizer.
`transformers serve` is that of `$PALATE_TRANSFORMERS_PYTHON`, by default of palate's own environment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from _measure import (
    Job,
    Report,
    child_job,
    located,
    model_and_source,
    palate_python,
    peak_bytes,
    positive,
    precision_option,
    results_option,
    run_child,
    say,
    spread,
    write_result,
)
from tables import serve_table

START_SECONDS = 300.0
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1].endswith(".json"):
        child()
        return 0
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-bench-") as folder:
        result = compare_batch(options, Path(folder)) if options.batch else compare(options, Path(folder))
    path = write_result(f"{result['benchmark']}-{options.precision}", located(result), options.results)
    print(serve_table([json.loads(path.read_text(encoding="utf-8"))]))
    say(f"written: {path}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Throughput and latency of a server of a model.")
    parser.add_argument("--streams", type=positive, nargs="+", default=[1, 4, 16], help="clients at a time")
    parser.add_argument("--requests", type=positive, default=2, help="of each client")
    parser.add_argument("--max-new-tokens", type=positive, default=128)
    parser.add_argument("--sides", nargs="+", choices=list(COMMANDS), default=["palate", "transformers"])
    parser.add_argument("--batch", action="store_true", help="measure the batch alone, without servers")
    parser.add_argument("--rounds", type=positive, default=3)
    precision_option(parser)
    model_and_source(parser)
    results_option(parser)
    return parser.parse_args()


def settings(options: argparse.Namespace) -> Report:
    return {name: value for name, value in vars(options).items() if name not in ("results", "source", "model", "batch")}


def user_texts(options: argparse.Namespace) -> list[str]:
    """The first messages of the file's prompts, one for each request of the level with the most streams."""
    from palate.data import load_records
    from palate.records import PreferencePair

    count = max(options.streams) * options.requests
    records = load_records(str(options.source), kind=PreferencePair, max_samples=count).records
    if len(records) < count:
        sys.exit(f"{options.source}: {len(records)} prompts, not {count}")
    return [record.prompt[-1].content for record in records]


# ---- servers


def palate_command(options: argparse.Namespace, port: int) -> list[str]:
    words = ["serve", "--model", options.model, "--precision", options.precision, "--port", str(port)]
    return [palate_python(), "-m", "palate", *words]


def transformers_command(options: argparse.Namespace, port: int) -> list[str]:
    from palate.models.loading.resolve import resolve_name

    python = Path(os.environ.get("PALATE_TRANSFORMERS_PYTHON", palate_python()))
    words = ["serve", resolve_name(options.model), "--dtype", DTYPES[options.precision], "--device", "cpu"]
    return [str(python.with_name("transformers")), *words, "--port", str(port)]


def paged_command(options: argparse.Namespace, port: int) -> list[str]:
    return [*transformers_command(options, port), "--continuous-batching"]


def served_name(side: str, options: argparse.Namespace, base_url: str) -> str:
    """The model's name in requests."""
    if side == "palate":
        return str(httpx.get(f"{base_url}/models", timeout=30).json()["data"][0]["id"])
    return COMMANDS[side](options, 0)[2]  # the folder


COMMANDS = {"palate": palate_command, "transformers": transformers_command, "transformers-paged": paged_command}


@contextlib.contextmanager
def server(side: str, options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """The base URL of a running server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / f"{side}.log"
    with log.open("w") as output:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PALATE_STORE": f"sqlite:///{folder / 'palate.db'}"}
        process = subprocess.Popen(COMMANDS[side](options, port), stdout=output, stderr=output, env=environment)
    try:
        base_url = f"http://127.0.0.1:{port}/v1"
        end = time.monotonic() + START_SECONDS
        while not _answers(base_url):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"{side} does not serve:\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield base_url
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(base_url: str) -> bool:
    """Whether it answers at all: transformers has no list of models without a cache of the hub."""
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(f"{base_url}/models", timeout=30)
        return True
    return False


# ---- clients


@dataclass(frozen=True, slots=True)
class Reply:
    """A streamed answer: its text, and the seconds to its first text and to its end."""

    text: str
    first: float
    seconds: float


def compare(options: argparse.Namespace, folder: Path) -> Report:
    """Both servers in turn, in every round."""
    from palate.models.loading.load import load_tokenizer

    texts = user_texts(options)
    tokenizer = load_tokenizer(options.model)
    rounds: dict[str, dict[int, list[Report]]] = {side: {n: [] for n in options.streams} for side in options.sides}
    answers: dict[str, dict[str, str]] = {}
    for number in range(options.rounds):
        for side in options.sides:
            with server(side, options, folder) as base_url:
                request = {
                    "model": served_name(side, options, base_url),
                    "max_tokens": options.max_new_tokens,
                    "temperature": 0,
                    "stream": True,
                }
                asyncio.run(ask_all(base_url, request, texts[:1], 1))
                for streams in options.streams:
                    asked = texts[: streams * options.requests]
                    begin = time.monotonic()
                    replies = asyncio.run(ask_all(base_url, request, asked, streams))
                    seconds = time.monotonic() - begin
                    tokens = sum(len(tokenizer(reply.text, add_special_tokens=False)["input_ids"]) for reply in replies)
                    found = figures(tokens, seconds, [reply.first for reply in replies])
                    rounds[side][streams].append(found)
                    answers[side] = {text: reply.text for text, reply in zip(asked, replies, strict=True)}
                    say(f"round {number + 1}: {side}, {streams} streams: {found['tokens_per_second']:.0f} tokens/s")
    return {
        "benchmark": "serve",
        "settings": settings(options),
        "sides": {side: levels(found) for side, found in rounds.items()},
        "equal_answers": _equal(answers),
    }


async def ask_all(base_url: str, request: Job, texts: Sequence[str], streams: int) -> list[Reply]:
    """The answers to all texts, by so many clients."""
    replies: dict[int, Reply] = {}
    left = iter(enumerate(texts))
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=streams)) as http:

        async def client() -> None:
            for number, text in left:
                replies[number] = await ask(
                    http, base_url, {**request, "messages": [{"role": "user", "content": text}]}
                )

        await asyncio.gather(*(client() for _ in range(streams)))
    return [replies[number] for number in range(len(texts))]


async def ask(http: httpx.AsyncClient, base_url: str, request: Job) -> Reply:
    begin = time.monotonic()
    pieces: list[str] = []
    first = 0.0
    async with http.stream("POST", f"{base_url}/chat/completions", json=request) as response:
        if response.status_code != 200:
            sys.exit(f"{base_url}: {response.status_code} {(await response.aread())[:500]!r}")
        async for piece in contents(response):
            first = first or time.monotonic() - begin
            pieces.append(piece)
    seconds = time.monotonic() - begin
    return Reply("".join(pieces), first or seconds, seconds)


async def contents(response: httpx.Response) -> AsyncIterator[str]:
    """The pieces of text of a stream of chat completion chunks."""
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            for choice in json.loads(line.removeprefix("data: ")).get("choices", []):
                if piece := choice["delta"].get("content"):
                    yield piece


def figures(tokens: int, seconds: float, firsts: Sequence[float]) -> Report:
    """Of one level in one round; times in seconds."""
    ordered = sorted(firsts)
    return {
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "first_p50": statistics.median(ordered),
        "first_p95": ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
    }


def levels(found: dict[int, list[Report]]) -> Report:
    """For each number of streams the spread of each figure over the rounds."""
    return {
        str(streams): {name: spread([report[name] for report in reports]) for name in reports[0]}
        for streams, reports in found.items()
    }


def _equal(answers: dict[str, dict[str, str]]) -> float | None:
    """Share of prompts with equal answers of the first two sides."""
    if len(answers) < 2:
        return None
    one, other = list(answers.values())[:2]
    return sum(one[text] == other[text] for text in one) / len(one)


# ---- the batch alone, in a process of its own


def compare_batch(options: argparse.Namespace, folder: Path) -> Report:
    """The batch at each number of streams, against `generate` with one prompt after another."""
    job: Job = {
        "do": "batch",
        "model": options.model,
        "texts": user_texts(options),
        "streams": options.streams,
        "requests": options.requests,
        "max_new_tokens": options.max_new_tokens,
        "precision": options.precision,
        "rounds": options.rounds,
    }
    report = run_child(palate_python(), "serve.py", job, folder)
    sides = {name: levels({int(n): reports for n, reports in found.items()}) for name, found in report["sides"].items()}
    return {"benchmark": "batch", "settings": settings(options), "sides": sides, "equal_answers": report["equal"]}


def child() -> None:
    import torch

    from palate.evaluation.subject import Subject, model_spec
    from palate.models.precision import resolve
    from palate.records import Message

    job, report_file = child_job()
    device = torch.device("cpu")
    subject = Subject(model_spec(job["model"]), resolve(job["precision"], device), device)
    prompts = [subject.template.generation_prompt((Message("user", text),)) for text in job["texts"]]
    sides: dict[str, dict[int, list[Report]]] = {"batch": {}, "one by one": {}}
    equal = []
    for _ in range(job["rounds"]):
        for streams in job["streams"]:
            asked = prompts[: streams * job["requests"]]
            batch, answers = batch_answers(subject, asked, job)
            single, wanted = single_answers(subject, asked, job)
            sides["batch"].setdefault(streams, []).append(batch)
            sides["one by one"].setdefault(streams, []).append(single)
            equal += [one == other for one, other in zip(answers, wanted, strict=True)]
            say(f"{streams} streams: {batch['tokens_per_second']:.0f} and {single['tokens_per_second']:.0f} tokens/s")
    report = {"sides": sides, "equal": sum(equal) / len(equal), "peak_bytes": peak_bytes()}
    report_file.write_text(json.dumps(report), encoding="utf-8")


def batch_answers(subject: Any, prompts: Sequence[Sequence[int]], job: Job) -> tuple[Report, list[list[int]]]:
    """All prompts at once; the batch is loaded before the clock starts."""
    from palate.models.generation.decoding import Decoding
    from palate.models.generation.local.continuous import Batcher

    answers: list[list[int]] = [[] for _ in prompts]
    firsts = [0.0] * len(prompts)
    ended = threading.Semaphore(0)
    decoding = Decoding(job["max_new_tokens"])
    with Batcher(subject.model, stop_ids=subject.template.stop_ids, precision=subject.precision) as batcher:
        begin = time.monotonic()

        def receiver(number: int) -> Any:
            def on_token(token: Any) -> None:
                firsts[number] = firsts[number] or time.monotonic() - begin
                answers[number].append(token.id)
                if token.finish_reason:
                    ended.release()

            return on_token

        for number, prompt in enumerate(prompts):
            batcher.submit(prompt, decoding, 0, receiver(number))
        for _ in prompts:
            ended.acquire()
        seconds = time.monotonic() - begin
    return figures(sum(map(len, answers)), seconds, firsts), answers


def single_answers(subject: Any, prompts: Sequence[Sequence[int]], job: Job) -> tuple[Report, list[list[int]]]:
    """One prompt after another, as a model without a batch answers a queue."""
    from palate.models.generation.decoding import Decoding
    from palate.models.generation.local.generate import generate

    answers, firsts = [], []
    begin = time.monotonic()
    for prompt in prompts:
        times: list[float] = []
        answers += generate(
            subject.model,
            [prompt],
            Decoding(job["max_new_tokens"]),
            stop_ids=subject.template.stop_ids,
            precision=subject.precision,
            on_token=lambda *_, times=times: times.append(time.monotonic() - begin),  # type: ignore[misc]
        )
        firsts.append(times[0])
    return figures(sum(map(len, answers)), time.monotonic() - begin, firsts), answers


if __name__ == "__main__":
    sys.exit(main())
