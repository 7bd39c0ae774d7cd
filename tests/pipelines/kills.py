"""`palate train CONFIG` in forked children, each killed by SIGKILL before a later change below FOLDER than the last.

    python kills.py CONFIG.yaml FOLDER STRIDE

The first child dies before its 1st change (a file opened for writing, renamed or removed, a folder made), the next
before its (1 + STRIDE)th, and so on, until one ends by itself. Prints as JSON how many died and where. The parent
imports everything once and computes nothing, so that a fork is safe and costs milliseconds.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import transformers.models.llama.modeling_llama
import transformers.models.llama.tokenization_llama  # noqa: F401

import palate.feedback.judges.load
import palate.pipelines.pipeline
import palate.report.pages.run  # noqa: F401
from palate.cli.main import main

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MOST = 400


def changed(event: str, arguments: tuple[Any, ...], folder: str) -> str | None:
    """The path below `folder` that an audited event is about to change, or None."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & WRITES:
            return None
    elif event in CHANGES:
        path = arguments[0]
        if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:  # within a folder that is being deleted
            path = Path(f"/proc/self/fd/{arguments[1]}").readlink() / os.fsdecode(path)
    else:
        return None
    name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
    return name if name.startswith(folder) else None


def killed_before(number: int, config: str, folder: str, place: int) -> None:
    """In the child: run, and die before the change of that number; where is written to the descriptor `place`."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        path = changed(event, arguments, folder)
        if path is None:
            return
        seen += 1
        if seen == number:
            os.write(place, f"{event} {Path(path).relative_to(folder)}".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os._exit(main(["train", config]))


def run(config: str, folder: str, stride: int) -> dict[str, Any]:
    places: list[str] = []
    gc.freeze()  # a child's full collections neither visit nor copy what its parent imported
    for attempt in range(MOST):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            killed_before(1 + stride * attempt, config, folder, write)
        os.close(write)
        said = os.fdopen(read).read()
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            return {"exit": os.waitstatus_to_exitcode(status), "kills": places}
        places.append(said)
    return {"exit": None, "kills": places}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
