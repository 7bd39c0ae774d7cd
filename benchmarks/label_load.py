"""The labelling page under load: a server of its own, many items, many people at the same time.

    python benchmarks/label_load.py                               50,000 items, 50 people
    python benchmarks/label_load.py --items 5000 --people 10 --seconds 20
    python benchmarks/label_load.py --store postgresql://…        an empty PostgreSQL database in place of a SQLite file

Each person gets a page, waits (exponential, `--pause` seconds on average), votes, and gets the next page. Timed are
whole requests, as the client sees them; the clients run beside the server on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2 as httpx
import psutil
from _measure import MEBIBYTE, located, palate_python, positive, results_option, say, write_result

WORDS = "the a model answer says that this question has two parts and neither is simple because of what came before"
CHOICES = ("first_much", "first", "tie", "second", "second_much", "both_bad")
PORT = 8765
SETTINGS = ("items", "people", "votes_per_item", "seconds", "pause")
_HIDDEN = re.compile(r'name="(csrf_token|lease|request_key)" value="([^"]*)"')


def main() -> int:
    options = parse()
    with tempfile.TemporaryDirectory(prefix="palate-label-") as folder:
        result = measure(options, Path(folder))
    path = write_result("label_load", located(result), options.results)
    for name, row in result["milliseconds"].items():
        shares = "   ".join(f"{share} {row[share]:7.1f} ms" for share in ("p50", "p95", "p99"))
        print(f"{name:<6} n {row['n']:>6}   {shares}")
    votes, rate, failed = result["votes"], result["votes_per_second"], result["failed"]
    print(f"votes  {votes} stored, {rate:.1f} a second, {failed} requests failed")
    print("memory " + ", ".join(f"{mebibytes:.0f}" for mebibytes in result["server_mebibytes"]) + " MiB over time")
    print(f"import {result['import_seconds']:.1f} s")
    say(f"written: {path}")
    return 1 if result["failed"] or result["votes"] != result["acknowledged"] else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Response times of the labelling page under load.")
    parser.add_argument("--items", type=positive, default=50_000)
    parser.add_argument("--people", type=positive, default=50)
    parser.add_argument("--votes-per-item", type=positive, default=3)
    parser.add_argument("--seconds", type=positive, default=60, help="of the measurement, after the first pages")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between a page and its vote, on average")
    parser.add_argument("--store", help="URL of an empty database; absent: a SQLite file")
    results_option(parser)
    return parser.parse_args()


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    candidates = folder / "candidates.jsonl"
    write_candidates(candidates, options.items)
    url = options.store or f"sqlite:///{folder / 'palate.db'}"
    cookies = make_people(url, options.people)
    start = time.perf_counter()
    command = [palate_python(), "-m", "palate", "label", "serve", "--candidates", str(candidates), "--store", url]
    command += ["--port", str(PORT), "--no-open", "--votes-per-item", str(options.votes_per_item)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            place = urlsplit(server.stdout.readline().strip())
            if place.scheme != "http":
                sys.exit("the server has not started")
            address = f"http://{place.netloc}"
            imported = time.perf_counter() - start
            found = asyncio.run(people_at_work(options, address, cookies, psutil.Process(server.pid)))
        finally:
            server.terminate()
            server.wait(timeout=30)
    return {
        "benchmark": "label_load",
        "settings": {name: getattr(options, name) for name in SETTINGS},
        "database": url.partition(":")[0],
        "import_seconds": round(imported, 2),
        "votes": votes_in(url),
        **found,
    }


def write_candidates(path: Path, items: int) -> None:
    """Prompts with two answers of 20 to 300 words."""
    rng = random.Random(0)
    words = WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(items):
            answers = [" ".join(rng.choices(words, k=rng.randint(20, 300))) for _ in range(2)]
            row = {"id": f"item-{number}", "prompt": f"Question {number}: {' '.join(rng.choices(words, k=30))}?"}
            file.write(json.dumps({**row, "completions": answers}) + "\n")


def make_people(url: str, people: int) -> list[dict[str, str]]:
    """Accounts that are logged in; the cookies of each."""
    from palate.store import open_store
    from palate.web.security import accounts, sessions
    from palate.web.security.passwords import hash_password
    from palate.web.settings import Settings

    store = open_store(url)
    now = datetime.now(UTC)
    hashed = hash_password("correct horse battery", name="")
    cookies = []
    for number in range(people):
        token = sessions.new_token()
        name = f"person-{number}"
        person = store.write(lambda session, name=name: accounts.add_account(session, name, hashed, "annotator", now))
        login = person.id, token
        store.write(lambda session, login=login: sessions.open_login(session, *login, now=now, hours=12))
        cookies.append({Settings(local=False, port=PORT).session_cookie: token})
    store.close()
    return cookies


def votes_in(url: str) -> int:
    from sqlalchemy import func, select

    from palate.store import open_store
    from palate.store.tables import VoteRow

    store = open_store(url)
    count = store.read(lambda session: session.scalar(select(func.count()).select_from(VoteRow)))
    store.close()
    return int(count or 0)


async def people_at_work(
    options: argparse.Namespace, address: str, cookies: Sequence[dict[str, str]], server: psutil.Process
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"page": [], "vote": []}
    memory: list[float] = []
    counts = {"acknowledged": 0, "failed": 0}
    end = time.perf_counter() + options.seconds

    async def watch() -> None:
        while time.perf_counter() < end:
            memory.append(server.memory_info().rss / MEBIBYTE)
            await asyncio.sleep(options.seconds / 6)

    async def person(number: int) -> None:
        rng = random.Random(number)
        headers = {"accept": "text/html", "origin": address}
        async with httpx.AsyncClient(base_url=address, cookies=cookies[number], headers=headers, timeout=60) as client:
            await asyncio.sleep(rng.random() * options.pause)  # people do not begin at the same moment
            page = await timed("page", client.get("/label/default"))
            while time.perf_counter() < end:
                await asyncio.sleep(rng.expovariate(1 / options.pause))
                fields = dict(_HIDDEN.findall(page.text))
                if "lease" not in fields:
                    sys.exit(f"no item on the page of person {number} (status {page.status_code})")
                fields |= {"choice": rng.choice(CHOICES), "reason": "", "seconds": "2.5", "seconds_total": "3.0"}
                sent = await timed("vote", client.post("/label/default/vote", data=fields))
                counts["acknowledged" if sent.status_code == 303 else "failed"] += 1
                page = await timed("page", client.get(sent.headers.get("location", "/label/default")))
                counts["failed"] += page.status_code != 200

    async def timed(name: str, request: Any) -> httpx.Response:
        start = time.perf_counter()
        response: httpx.Response = await request
        seconds[name].append(time.perf_counter() - start)
        return response

    begin = time.perf_counter()
    await asyncio.gather(watch(), *(person(number) for number in range(options.people)))
    took = time.perf_counter() - begin
    memory.append(server.memory_info().rss / MEBIBYTE)
    return {
        "milliseconds": {name: summary(times) for name, times in seconds.items()},
        "votes_per_second": round(counts["acknowledged"] / took, 2),
        "server_mebibytes": [round(value, 1) for value in memory],
        **counts,
    }


def summary(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"n": len(seconds), **{f"p{share}": round(1000 * cuts[share - 1], 2) for share in (50, 95, 99)}}


if __name__ == "__main__":
    sys.exit(main())
