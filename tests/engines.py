"""A small OpenAI-compatible engine: a server in a thread that speaks HTTP and samples from two texts."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
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
        self.models: list[str] = []
        self.pause = 0.0
        self.words = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        """The list of models; without one the engine has no such address."""
        if not self.server.models:
            self.send_error(404)
            return
        self._reply(200, json.dumps({"data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verb = self.path.rpartition("/")[2]
        self.server.calls.append(verb)
        status, reply = 200, "Success"
        if verb == "completions":
            self.server.chats.append(body)
            text = GOOD if body["seed"] % 2 else BAD
            if body.get("stream"):
                self._stream(text)
                return
            choice = {"message": {"role": "assistant", "content": text}, "finish_reason": self.server.reason}
            reply = json.dumps({"choices": [choice], "usage": {"completion_tokens": 5}})
        elif verb == "load_lora_adapter" and body["lora_name"] in self.server.adapters:
            status, reply = 400, json.dumps({"error": {"message": "has already been loaded"}})
        elif verb == "load_lora_adapter":
            assert (Path(body["lora_path"]) / "adapter_model.safetensors").exists()
            self.server.adapters[body["lora_name"]] = body["lora_path"]
        else:
            del self.server.adapters[body["lora_name"]]
        self._reply(status, reply)

    def _reply(self, status: int, reply: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(reply.encode())

    def _stream(self, text: str) -> None:
        """The text as events, word by word."""
        text += " on" * self.server.words
        choices: list[dict[str, Any]] = [{"delta": {"content": word}} for word in re.findall(r"\S+ ?", text)]
        chunks = [{"choices": [choice]} for choice in [*choices, {"delta": {}, "finish_reason": self.server.reason}]]
        self._reply(200, "", "text/event-stream")
        with contextlib.suppress(OSError):  # the client has gone
            for chunk in chunks:
                time.sleep(self.server.pause)
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """The engine, for as long as the block lasts."""
    with Server() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()


def settled(count: Callable[[], Any], seconds: float = 0.5) -> Any:
    """What is counted, once it has stayed the same for some time: nothing that is under way arrives any more."""
    before = None
    while (now := count()) != before:
        before = now
        time.sleep(seconds)
    return now
