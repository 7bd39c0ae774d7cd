"""How generation scales with the number of endpoints: fake ones, each a process that answers after a fixed delay.

    python benchmarks/endpoints.py --delay 0.5 --seconds 10

An endpoint serves any number of requests at once, so that one with N in flight answers N / delay requests a second;
what is missing to that is palate's own work and the end of the run, when endpoints have nothing left to do.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from palate.models.generation.decoding import Decoding
from palate.models.generation.endpoints.engine import Engine
from palate.records import Message

IN_FLIGHT = 8


def serve(delay: float, ports: Any) -> None:
    """One endpoint; puts its port into the queue `ports`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.reply({"data": [{"id": "m"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay)
            message = {"role": "assistant", "content": "an answer"}
            self.reply({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

        def reply(self, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ports.put(server.server_address[1])
    server.serve_forever()


@contextmanager
def endpoints(count: int, delay: float) -> Iterator[str]:
    """The URLs of endpoints, as `--base-url` has them."""
    ports: Any = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=serve, args=(delay, ports), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield ",".join(f"http://127.0.0.1:{ports.get(timeout=60)}/v1" for _ in processes)
    finally:
        for process in processes:
            process.kill()


def main() -> None:
    """Print a table, and a last line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delay", type=float, default=0.5, help="seconds that an endpoint takes for an answer")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement, about")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    rates: dict[int, float] = {}
    print("endpoints  answers/s  of the ideal  least and most of one endpoint")
    for count in given.counts:
        ideal = count * IN_FLIGHT / given.delay
        prompts = [(Message("user", f"question {number}"),) for number in range(int(ideal * given.seconds))]
        with endpoints(count, given.delay) as urls:
            engine = Engine(urls, "m", in_flight=IN_FLIGHT)
            engine.answers(prompts[: count * IN_FLIGHT], Decoding(), range(count * IN_FLIGHT))  # connections are made
            began = time.perf_counter()
            engine.answers(prompts, Decoding(), range(len(prompts)))
            rates[count] = len(prompts) / (time.perf_counter() - began)
            shares = engine.answered.values()
        share = f"{100 * rates[count] / ideal:.0f} %"
        print(f"{count:9d}  {rates[count]:9.1f}  {share:>12}  {min(shares):,} and {max(shares):,}")
    print(json.dumps({"delay": given.delay, "in_flight": IN_FLIGHT, "answers_per_second": rates}))


if __name__ == "__main__":
    main()
