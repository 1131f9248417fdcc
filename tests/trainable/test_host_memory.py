"""Memory that is freed stays with the process while a trial runs, and goes back when it ends."""

import subprocess
import sys

import pytest

from trainable.host_memory import _glibc

SCRIPT = """
import resource
from pathlib import Path
import torch
from trainable.host_memory import keep_freed_memory, return_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(12_000_000).add_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

without = faults()
assert keep_freed_memory()
faults()
kept, held = faults(), resident()
return_freed_memory()
print(without, kept, held - resident())
"""


@pytest.mark.skipif(sys.platform != "linux" or _glibc() is None, reason="glibc only")
def test_kept_memory_is_not_mapped_anew_and_goes_back_at_the_end() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    without, kept, returned_pages = (int(word) for word in ran.stdout.split())
    pages = 12_000_000 * 4 // 4096
    assert without > 15 * pages
    assert kept < pages // 10
    assert returned_pages > pages // 2
