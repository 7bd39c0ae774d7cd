"""Times a new user's way from a data file (or a training file of LLaMA-Factory) to a served, compared model.

    PYTHONPATH=src python tools/new_user.py
    PYTHONPATH=src python tools/new_user.py --data ../data/pairs.json
    PYTHONPATH=src python tools/new_user.py --config dpo.yaml --set dataset=pairs.json --set model_name_or_path=MODEL

It types the commands of docs/quickstart.md in a new folder, asks the server with curl's request and the openai client,
gives feedback, makes training data of it, and rolls back. It prints the table of times as Markdown; the first step that
fails ends it with that step's output.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

MODEL = "smollm2-135m-instruct"
QUESTION = "Answer in one short sentence: have you ever been skiing?"
FEEDBACK = {"thumbs": "down", "edit": "No, I am a program."}
READY_SECONDS = 120
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1"}


class Walk:
    """The commands of one user in one folder, with the seconds that each took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.times: list[tuple[str, str, float]] = []

    def note(self, step: str, shown: str, begin: float) -> None:
        self.times.append((step, shown, time.monotonic() - begin))
        print(f"{self.times[-1][2]:6.1f} s  {shown}", file=sys.stderr, flush=True)

    def palate(self, step: str, *words: str, typed: str = "") -> str:
        """Runs a command, and returns what it printed on stdout."""
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "palate", *words], cwd=self.folder, env=ENVIRONMENT, input=typed,
            capture_output=True, text=True,
        )  # fmt: skip
        (self.folder / f"{len(self.times) + 1:02}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode:
            sys.exit(f"palate {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        self.note(step, f"palate {' '.join(words)}", begin)
        return done.stdout

    def table(self) -> str:
        rows = [f"| {step} | `{shown}` | {seconds:.0f} s |" for step, shown, seconds in self.times]
        total = sum(seconds for _, _, seconds in self.times)
        return "\n".join(["| step | command | time |", "|---|---|---:|", *rows, f"| all | | {total:.0f} s |"])


def reply_of(url: str, value: object, **headers: str) -> dict[str, Any]:
    """The JSON reply to a JSON request."""
    reply = httpx2.post(url, json=value, headers=headers, timeout=READY_SECONDS)
    reply.raise_for_status()
    return dict(reply.json())


def serve(walk: Walk, alias: str) -> tuple[subprocess.Popen[str], str]:
    """A server of an alias, and its address once it can answer."""
    begin = time.monotonic()
    words = ["serve", "--alias", alias, "--port", "0", "--record", "full"]
    log = walk.folder / "serve.log"
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "palate", *words], cwd=walk.folder, env=ENVIRONMENT, stdout=output,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    while time.monotonic() < begin + READY_SECONDS and server.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text(encoding="utf-8"))
        if found and httpx2.get(f"{found[0]}/health/ready", timeout=5).status_code == 200:
            walk.note("serve, until it can answer", f"palate {' '.join(words)}", begin)
            return server, found[0]
        time.sleep(0.1)
    server.kill()
    sys.exit(f"palate serve does not answer:\n{log.read_text(encoding='utf-8')}")


def ask(walk: Walk, url: str) -> str:
    """Asks as the quickstart does, gives feedback, asks again with the openai client; the version that answered."""
    from openai import OpenAI

    question: Any = {"role": "user", "content": QUESTION}
    begin = time.monotonic()
    asked = {"messages": [question], "max_tokens": 256, "temperature": 0}
    reply = reply_of(f"{url}/v1/chat/completions", asked, **{"x-palate-consent": "true"})
    walk.note("a request", "curl …/v1/chat/completions", begin)
    begin = time.monotonic()
    reply_of(f"{url}/v1/feedback", FEEDBACK, **{"x-palate-feedback-token": reply["palate"]["feedback_token"]})
    walk.note("feedback", "curl …/v1/feedback", begin)
    begin = time.monotonic()
    client = OpenAI(base_url=f"{url}/v1", api_key="none")
    second = client.chat.completions.create(model="production", messages=[question], max_tokens=16)
    walk.note("the openai client", "client.chat.completions.create(…)", begin)
    assert second.choices[0].message.content
    return second.model


def wait_for(url: str, version: str) -> None:
    """Until the server answers with a version."""
    begin = time.monotonic()
    while time.monotonic() < begin + READY_SECONDS:
        question = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        if reply_of(f"{url}/v1/chat/completions", question)["model"] == version:
            return
        time.sleep(0.2)
    sys.exit(f"the server does not answer with {version}")


def go(walk: Walk, data: str, config: str | None, changes: Sequence[str]) -> None:
    if config is None:
        walk.palate("look at the data", "data", "inspect", data)
        walk.palate("write a config", "init", data, "--model", MODEL, "--output", "run.yaml")
        config = "run.yaml"
    overrides = [word for change in changes for word in ("--set", change)]
    run = str(json.loads(walk.palate("check it", "plan", config, "--json", *overrides))["config"]["output_dir"])
    walk.palate("train", "train", config, *overrides)
    walk.palate("held-out accuracy", "eval", "accuracy", run)
    walk.palate("answers side by side", "compare", run)
    walk.palate(
        "win rate by a rule", "eval", "winrate", run, MODEL, "--prompts", data, "--max-samples", "16",
        "--max-new-tokens", "64", "--judge", "length:shorter", "--output", "winrate",
    )  # fmt: skip
    walk.palate("a question in chat", "chat", run, "--max-new-tokens", "64", typed=QUESTION)
    walk.palate("export", "model", "export", run, "--merged", "--output", "exported")
    walk.palate("keep the version", "model", "add", run)
    walk.palate("make it production", "model", "promote", "v1.0", "--reason", "first model")
    server, url = serve(walk, "production")
    try:
        version = ask(walk, url)
        assert version == "v1.0", version
        walk.palate("data from feedback", "data", "from-interactions", "--output", "collected", "--share-per-user", "1")
        walk.palate("keep a second version", "model", "add", "exported")
        begin = time.monotonic()
        walk.palate("switch to it", "model", "promote", "v1.1", "--reason", "merged")
        wait_for(url, "v1.1")
        walk.note("until it answers", "curl …/v1/chat/completions", begin)
        begin = time.monotonic()
        walk.palate("roll back", "model", "rollback", "--reason", "as before")
        wait_for(url, "v1.0")
        walk.note("until the first one answers", "curl …/v1/chat/completions", begin)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(READY_SECONDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="comparisons; by default the built-in ones as a CSV file")
    parser.add_argument("--config", help="a training file, in place of the one that palate init writes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="overrides of its keys")
    parser.add_argument("--folder", help="a new folder for everything; default: a temporary one")
    arguments = parser.parse_args()
    walk = Walk(Path(arguments.folder or tempfile.mkdtemp(prefix="palate-new-user-")))
    walk.folder.mkdir(parents=True, exist_ok=True)
    if arguments.data is None:
        walk.palate("a file of comparisons", "data", "convert", "palate-demo", "--to", "trl", "--output", "pairs.csv")
    data = "pairs.csv" if arguments.data is None else str(Path(arguments.data).resolve())
    config = arguments.config and str(Path(arguments.config).resolve())
    go(walk, data, config, arguments.set)
    print(walk.table())
    print(f"files: {walk.folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
