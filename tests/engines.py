"""A small OpenAI-compatible engine: a server in a thread that speaks HTTP and samples from two texts."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GOOD, BAD = "the e in these", "no i am not"


class Server(ThreadingHTTPServer):
    """Answers GOOD or BAD by the parity of the request's seed, and keeps adapters by name as vLLM does."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.chats: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.adapters: dict[str, str] = {}
        self.reason = "stop"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verb = self.path.rpartition("/")[2]
        self.server.calls.append(verb)
        status, reply = 200, "Success"
        if verb == "completions":
            self.server.chats.append(body)
            text = GOOD if body["seed"] % 2 else BAD
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": self.server.reason}
            reply = json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}})
        elif verb == "load_lora_adapter" and body["lora_name"] in self.server.adapters:
            status, reply = 400, json.dumps({"error": {"message": "has already been loaded"}})
        elif verb == "load_lora_adapter":
            assert (Path(body["lora_path"]) / "adapter_model.safetensors").exists()
            self.server.adapters[body["lora_name"]] = body["lora_path"]
        else:
            del self.server.adapters[body["lora_name"]]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """The engine, for as long as the block lasts."""
    with Server() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()
