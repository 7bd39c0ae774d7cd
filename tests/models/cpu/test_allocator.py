"""Freed memory stays: seen by the page faults that a second use of it costs. glibc's own limit is 32 MiB a block."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROBE = """
import resource, sys
from palate.models.cpu.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import torch
torch.set_num_threads(1)
def fill():
    blocks = [torch.ones(10 << 20) for _ in range(4)]
    del blocks
for _ in range(8):
    fill()  # an aligned block needs a little more than a freed one offers, until freed neighbours have merged
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PROBE, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting belongs to glibc")
def test_freed_blocks_are_reused_without_page_faults() -> None:
    assert faults("keep") < 200 < 1000 < faults("plain")
