"""An hour of training, generation and judging that are killed and resumed, beside one server that lives all the time.

    python benchmarks/soak.py                     an hour; writes benchmarks/results/soak.json
    python benchmarks/soak.py --minutes 2

A tiny random model is made first. `palate serve` holds it, and passes judge requests on to an engine with fixed
verdicts. Each job runs once without interruption: training (all weights, LoRA, last layer), generation and judging over
the server. Then the jobs repeat. Each gets SIGKILL at random moments and is resumed until it ends, and its result must
be the bytes of the uninterrupted one: weights and step metrics, answers, votes (without their times).

The server's memory, open files, threads and children are sampled every second. The exit code is 1 if a result differs,
a request or command fails, a command makes no progress for `--stuck` seconds, the server grows, or something is left
behind: temporary files, processes, open connections. Every process has one thread, and all run with low priority.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
from _measure import MEBIBYTE, REPOSITORY, above_zero, command_line, machine, results_option, say, write_result
from tables import OPENED, soak_table

WORDS = re.findall(r"\w+", "the answer is that it was not a question of what they said and this is why we go on")
MOST_KILLS = 3
# Of one job; a kill follows the first progress more often than the start, whose imports take most of the time.
KILLED_AFTER_PROGRESS = 0.7
# A server that leaks grows by more than both of these between the first and the last third of the samples.
GROWTH, GROWTH_MIB = 0.05, 10.0
CLOCKS = ("runtime", "samples_per_second", "steps_per_second")
_HIDDEN = re.compile(r"\..+\.(tmp|old|check)-[0-9a-f]{12}")


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] == "model":
        make_model(Path(sys.argv[2]))
        return 0
    options = parse()
    os.nice(10)
    root = Path(tempfile.mkdtemp(prefix="palate-soak-"))
    soak = Soak(root, options)
    try:
        result = soak.run()
    finally:
        soak.stop()
    print(soak_table([result]))
    say(f"written: {write_result('soak', result, options.results)}")
    if result["problems"]:
        say("\n".join([*result["problems"], f"everything is kept in {root}"]))
        return 1
    shutil.rmtree(root)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill and resume, for an hour, beside one server.")
    parser.add_argument("--minutes", type=above_zero, default=60.0)
    parser.add_argument("--stuck", type=above_zero, default=180.0, help="seconds without progress that are a failure")
    parser.add_argument("--seed", type=int, default=0)
    results_option(parser)
    return parser.parse_args()


# ---- what the jobs work on


def make_model(root: Path) -> None:
    """A tiny Llama as a user has one, in a process of its own: the soak itself stays without torch."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from tiny import save_tiny

    save_tiny(root / "small", initializer_range=0.2, num_hidden_layers=4, hidden_size=64)


def write_data(root: Path, rng: random.Random) -> None:
    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    pairs = [
        {"prompt": f"{n} {text(3, 20)}", "chosen": f"yes {text(3, 30)}", "rejected": f"no {text(3, 30)}"}
        for n in range(240)
    ]
    write_lines(root / "pairs.jsonl", pairs)
    write_lines(root / "prompts.jsonl", [{"prompt": f"{n} {text(3, 20)}"} for n in range(60)])


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Judge(BaseHTTPRequestHandler):
    """An engine whose verdict depends on the question only; it takes some time, so that kills find it at work."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "judge", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        digest = hashlib.sha256(str(body["messages"]).encode()).digest()
        time.sleep(0.02 + digest[1] / 2550)
        message = {"role": "assistant", "content": "AB"[digest[0] % 2]}
        choices = [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]
        usage = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
        head = {"id": "j", "object": "chat.completion", "created": 1, "model": "judge"}
        self._send({**head, "choices": choices, "usage": usage})

    def _send(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """No line for each request."""


# ---- jobs


@dataclass
class Job:
    """One kind of command, and what became of it.

    Attributes:
        name: for the table.
        seconds, first: of the uninterrupted run, to its end and to its first progress.
        expected: hash of its result.
        longest: seconds without progress, of any run.
    """

    name: str
    seconds: float = 0.0
    first: float = 0.0
    expected: str = ""
    runs: int = 0
    kills: int = 0
    resumes: int = 0
    equal: int = 0
    longest: float = 0.0

    def command(self, root: Path, folder: Path, url: str) -> list[str]:
        """The command whose repetition resumes it."""
        raise NotImplementedError

    def watched(self, folder: Path) -> Path:
        """The file that grows as the command makes progress."""
        raise NotImplementedError

    def result(self, folder: Path) -> str:
        """A hash of what must not depend on interruptions."""
        return digest(self.watched(folder).read_bytes())


@dataclass
class Training(Job):
    keys: dict[str, Any] = field(default_factory=dict)

    def command(self, root: Path, folder: Path, url: str) -> list[str]:
        del url
        config = {
            "stage": "dpo",
            "model_name_or_path": str(root / "small"),
            "dataset": str(root / "pairs.jsonl"),
            "output_dir": str(folder / "run"),
            "reference_cache": str(folder / "reference.safetensors"),
            **{"learning_rate": 1e-3, "per_device_train_batch_size": 4, "num_train_epochs": 3, "precision": "fp32"},
            **{"save_strategy": "steps", "save_steps": 8, "save_total_limit": 2, "torch_threads": 1},
            **{"logging_steps": 5, "val_size": 0.1, "eval_steps": 40, "sample_prompts": 2, "report_to": "tensorboard"},
            **{"resume_from_checkpoint": True, **self.keys},
        }
        path = folder / "run.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        return ["train", str(path)]

    def watched(self, folder: Path) -> Path:
        return folder / "run" / "metrics.jsonl"

    def result(self, folder: Path) -> str:
        rows = [json.loads(line) for line in self.watched(folder).read_text(encoding="utf-8").splitlines()]
        kept = [{key: row[key] for key in row if key.removeprefix("eval_") not in CLOCKS} for row in rows]
        weights = b"".join(path.read_bytes() for path in sorted((folder / "run").glob("*.safetensors")))
        return digest(weights + json.dumps(kept, sort_keys=True).encode())


class Generation(Job):
    def command(self, root: Path, folder: Path, url: str) -> list[str]:
        words = ["generate", str(root / "prompts.jsonl"), "-m", "small", "--base-url", url, "-k", "2"]
        return [*words, "--max-new-tokens", "32", "-o", str(self.watched(folder))]

    def watched(self, folder: Path) -> Path:
        return folder / "candidates.jsonl"


class Judging(Job):
    def command(self, root: Path, folder: Path, url: str) -> list[str]:
        words = ["judge", str(root / "candidates.jsonl"), "--judge", f"openai:judge@{url}", "--in-flight", "2"]
        return [*words, "-o", str(self.watched(folder)), "--store", f"sqlite:///{folder / 'palate.db'}"]

    def watched(self, folder: Path) -> Path:
        return folder / "votes.jsonl"

    def result(self, folder: Path) -> str:
        """Votes come in the order of the replies, and at other times."""
        rows = [json.loads(line) for line in self.watched(folder).read_text(encoding="utf-8").splitlines()]
        return digest("\n".join(sorted(json.dumps({**row, "when": ""}, sort_keys=True) for row in rows)).encode())


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def jobs() -> list[Job]:
    lora = {"finetuning_type": "lora", "lora_rank": 4}
    last = {"finetuning_type": "freeze", "freeze_trainable_layers": 1}
    return [
        Training("training, all weights"),
        Generation("generation"),
        Training("training, LoRA", keys=lora),
        Judging("judging"),
        Training("training, last layer", keys=last),
    ]


# ---- the hour


class Soak:
    """One soak in the folder `root`."""

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        self.root = root
        self.options = options
        self.rng = random.Random(options.seed)
        self.problems: list[str] = []
        self.samples: list[dict[str, float]] = []
        self.server: psutil.Popen | None = None
        self.engine = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
        threading.Thread(target=self.engine.serve_forever, daemon=True).start()
        self.done = threading.Event()
        self.temporary = root / "tmp"
        self.environment = {
            **os.environ,
            **{"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
            **{"TMPDIR": str(self.temporary), "PALATE_STORE": f"sqlite:///{root / 'served.db'}"},
        }

    def run(self) -> dict[str, Any]:
        self.temporary.mkdir()
        write_data(self.root, self.rng)
        subprocess.run([sys.executable, __file__, "model", str(self.root)], env=self.environment, check=True)
        url = self.serve()
        threading.Thread(target=self.watch, daemon=True).start()
        kinds = jobs()
        for job in kinds:
            self.uninterrupted(job, url)
        self.samples.clear()  # from here on the server is warm
        end = time.monotonic() + 60 * self.options.minutes
        number = 0
        while number < len(kinds) or time.monotonic() < end:  # every job at least once
            self.killed_and_resumed(kinds[number % len(kinds)], url, number)
            number += 1
        counts = self.requests(url)
        left = self.leftovers()
        self.done.set()
        figures = self.memory()
        self.stop()
        settings = {"minutes": self.options.minutes, "seed": self.options.seed}
        rows = [{name: getattr(job, name) for name in (*_COUNTED, "seconds", "longest")} for job in kinds]
        found = {"jobs": rows, "server": {**counts, **figures}, "leftovers": left, "problems": self.problems}
        facts = {"command": command_line(), "machine": machine(), "benchmark": "soak"}
        return {**facts, "settings": settings, **found}

    def serve(self) -> str:
        config = self.root / "serve.yaml"
        engine = {"upstream": f"http://127.0.0.1:{self.engine.server_port}/v1"}
        small = {"model": str(self.root / "small"), "precision": "fp32", "max_rows": 4}
        given = {"models": {"small": small, "judge": engine}, "record": "full", "port": 0}
        config.write_text(json.dumps(given), encoding="utf-8")
        self.server = self.start(["serve", "--config", str(config)], "serve.log")
        end = time.monotonic() + 300
        while time.monotonic() < end and self.server.poll() is None:
            if found := re.search(r"http://\S+/v1", (self.root / "serve.log").read_text()):
                return found[0]
            time.sleep(0.2)
        sys.exit(f"the server did not start:\n{(self.root / 'serve.log').read_text()}")

    def start(self, words: Sequence[str], log: str) -> psutil.Popen:
        with (self.root / log).open("a") as output:
            command = [sys.executable, "-m", "palate", *words]
            how = {"env": self.environment, "cwd": self.root, "stdin": subprocess.DEVNULL}
            return psutil.Popen(command, stdout=output, stderr=output, start_new_session=True, **how)

    def uninterrupted(self, job: Job, url: str) -> None:
        folder = self.root / "uninterrupted" / job.name
        folder.mkdir(parents=True)
        begin = time.monotonic()
        self.attempt(job, url, folder, kill=False)
        job.seconds = time.monotonic() - begin
        job.expected = job.result(folder)
        if isinstance(job, Generation):  # what judges compare
            shutil.copy(job.watched(folder), self.root / "candidates.jsonl")
        say(f"{job.name}: {job.seconds:.1f} s without interruption")

    def killed_and_resumed(self, job: Job, url: str, number: int) -> None:
        folder = self.root / f"{number}"
        folder.mkdir()
        kills = 0
        while self.attempt(job, url, folder, kill=kills < MOST_KILLS):
            kills += 1
        job.runs, job.kills, job.resumes = job.runs + 1, job.kills + kills, job.resumes + (kills > 0)
        equal = job.result(folder) == job.expected
        job.equal += equal
        hidden = [str(path.relative_to(self.root)) for path in folder.rglob(".*") if _HIDDEN.fullmatch(path.name)]
        self.problems += [f"{job.name}, run {number}: left behind: {name}" for name in hidden]
        if not equal:
            self.problems.append(f"{job.name}, run {number}: another result than without interruption")
        elif not hidden:
            shutil.rmtree(folder)
        say(f"{number}: {job.name}, killed {kills} times: {'equal' if equal else 'DIFFERENT'}")

    def attempt(self, job: Job, url: str, folder: Path, *, kill: bool) -> bool:
        """Run the command until it ends or is killed; True if it was killed at a random moment."""
        process = self.start(job.command(self.root, folder, url), f"{folder.name}.log")
        begin = progress = time.monotonic()
        path = job.watched(folder)
        seen = _size(path)
        after_progress = self.rng.random() < KILLED_AFTER_PROGRESS
        counted = None if after_progress else begin  # from when the time to the kill counts
        delay = self.rng.uniform(0.0, job.seconds - job.first if after_progress else job.seconds)
        killed = False
        children: list[psutil.Process] = []
        while process.poll() is None:
            time.sleep(0.05)
            now, grown = time.monotonic(), _size(path)
            with contextlib.suppress(psutil.NoSuchProcess):
                children = process.children(recursive=True) or children
            if grown != seen:
                job.first = job.first or now - begin
                job.longest = max(job.longest, now - progress)
                counted, progress, seen = counted or now, now, grown
            waited = now - progress > self.options.stuck
            if waited:
                self.problems.append(f"{job.name}: no progress for {self.options.stuck:.0f} s in {folder.name}")
            elif kill and counted is not None and now - counted >= delay:
                killed = True
            if waited or killed:
                process.kill()
                process.wait()
        job.longest = max(job.longest, time.monotonic() - progress)
        if not killed and process.returncode:
            said = (self.root / f"{folder.name}.log").read_text().strip().splitlines()[-1:]
            self.problems.append(f"{job.name}: exit code {process.returncode} in {folder.name}: {' '.join(said)}")
        _, alive = psutil.wait_procs(children, timeout=20)
        for child in alive:
            self.problems.append(f"{job.name}: a process outlives the command: {' '.join(child.cmdline())[:120]}")
            child.kill()
        return killed

    # ---- the server

    def watch(self) -> None:
        assert self.server is not None
        while not self.done.wait(1.0):
            try:
                with self.server.oneshot():
                    self.samples.append(
                        {
                            "mebibytes": self.server.memory_info().rss / MEBIBYTE,
                            "open_files": self.server.num_fds(),
                            "threads": self.server.num_threads(),
                            "children": len(self.server.children(recursive=True)),
                        }
                    )
            except psutil.NoSuchProcess:
                self.problems.append("the server ended by itself")
                return

    def memory(self) -> dict[str, Any]:
        """First and last third of the samples."""
        third = max(1, len(self.samples) // 3)
        parts = self.samples[:third], self.samples[-third:]
        found: dict[str, Any] = {}
        # The median of memory; of what is opened and closed again, the least shows what never is.
        for name, figure in (("mebibytes", statistics.median), *((name, min) for name in OPENED)):
            first, last = (float(figure([sample[name] for sample in part])) for part in parts)
            found[name] = [round(first, 1), round(last, 1)]
            grown = last > first * (1 + GROWTH) + GROWTH_MIB if name == "mebibytes" else last > first + 1
            if grown:
                self.problems.append(f"the server grows: {name} {first:.1f} in the first third, {last:.1f} in the last")
        values = [sample["mebibytes"] for sample in self.samples[third:]]
        if len(values) > 1:
            slope = statistics.linear_regression(range(len(values)), values).slope
            found["mebibytes_per_hour"] = round(slope * 3600, 1)
        return found

    def requests(self, url: str) -> dict[str, int]:
        """Requests to models by their end, from the server's metrics; those of killed clients are cancelled."""
        counts: dict[str, int] = {"complete": 0, "cancelled": 0}
        with urlopen(f"{url.removesuffix('/v1')}/metrics", timeout=30) as reply:
            text = reply.read().decode()
        for state, number in re.findall(r'^palate_requests_total\{.*state="(\w+)".*\} ([\d.e+]+)$', text, re.MULTILINE):
            counts[state] = counts.get(state, 0) + int(float(number))
        failed = {state: number for state, number in counts.items() if state not in ("complete", "cancelled")}
        self.problems += [f"{number} requests ended as {state}" for state, number in failed.items()]
        return {"requests": sum(counts.values()), "cancelled": counts["cancelled"], "failed": sum(failed.values())}

    def leftovers(self) -> list[str]:
        """Connections that clients no longer have, and temporary files."""
        assert self.server is not None
        port = int(re.search(r":(\d+)/v1", (self.root / "serve.log").read_text())[1])  # type: ignore[index]
        end = time.monotonic() + 15
        while True:
            clients = [c for c in self.server.net_connections("tcp") if c.laddr.port == port and c.raddr]
            if not clients or time.monotonic() > end:
                break
            time.sleep(0.5)
        found = [f"connection {one.status}" for one in clients]
        # torch keeps an empty folder for its compiler, for all processes of a user.
        files = [path for path in sorted(self.temporary.rglob("*")) if not path.name.startswith("torchinductor_")]
        found += [f"temporary file {path.relative_to(self.temporary)}" for path in files]
        self.problems += [f"left behind: {one}" for one in found]
        return found

    def stop(self) -> None:
        """End the server as a user does; it must obey, and leave no process."""
        server, self.server = self.server, None
        self.done.set()
        self.engine.shutdown()
        if server is None:
            return
        children = server.children(recursive=True)
        server.terminate()
        _, alive = psutil.wait_procs([server, *children], timeout=60)
        self.problems += [f"the server leaves process {process.name()}" for process in alive]
        for process in alive:
            process.kill()


_COUNTED = ("name", "runs", "kills", "resumes", "equal")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
