"""Every test computes with one thread: several that wait for each other on busy cores crawl."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; processes that tests start inherit it

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where torch sees none."""
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, torch sees none"))


@pytest.fixture
def products_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have any machine multiply matrices where few were measured to gain: the numbers are the same on all."""
    from trainable import small_maps

    monkeypatch.setattr(small_maps, "_supports", lambda instructions: instructions == "avx512_bf16")
    monkeypatch.setattr(small_maps, "is_intel_avx512", lambda: True)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: True)
