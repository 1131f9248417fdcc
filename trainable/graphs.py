"""Forward and backward pass of a network as two CUDA graphs: a GPU is told once what to do, then to do it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from trainable.precision import Precision

LARGEST_SHARE = 0.25
"""Of the GPU's free memory, the most that a pass may take: its graph keeps as much for itself."""


class GraphedForward:
    """The forward pass of `model`, replayed with its backward pass where that can be done.

    Small networks leave a GPU idle: Python takes longer to name the kernels of a step than the GPU to run them.
    Recorded once, they are named by a single call. The kernels are the same, dropout draws what it would draw.

    A pass is recorded at its second call: the first has shown how much memory it takes. Passes of another shape
    (an epoch's last batch, micro-batches), in evaluation mode or without gradients go through the network
    itself, as all do where the memory does not suffice or the network does something that cannot be recorded
    (asking the GPU for a number). Only one pass may be under way at a time, and gradients are set, not added:
    those of the step before must have been done away with. What Python decides in a pass (a branch by a random
    number of its own, a counter) is decided once, at the recording: no network of tailtune does that.

    Args:
        model: On its GPU, in the memory format of its images, with no hooks that need to run.
        precision: The number format of its passes.
        batch_size: Images of the batches that are worth it.
    """

    def __init__(self, model: nn.Module, precision: Precision, batch_size: int) -> None:
        self.model, self.precision, self.batch_size = model, precision, batch_size
        self.refused: str | None = None
        """Why nothing is recorded any more, where that is so."""
        self._shape: torch.Size | None = None
        self._recording: Recording | None = None

    @property
    def recorded(self) -> bool:
        """Whether passes are replayed."""
        return self._recording is not None

    def give_up(self, reason: str) -> None:
        """Record nothing any more, and free what was recorded."""
        self.refused, self._recording = reason, None

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits `(B, K)` of images `(B, C, H, W)`."""
        recording = None
        if len(images) == self.batch_size and self.model.training and torch.is_grad_enabled():
            recording = self._at_shape(images)
        logits: Tensor = self.model(images) if recording is None else recording(images)
        return logits

    def _at_shape(self, images: Tensor) -> Recording | None:
        """Return what replays passes of such images, or None; a former shape's graphs are freed."""
        if images.shape != self._shape:
            self._shape, self._recording = images.shape, None
        elif self._recording is None and self.refused is None:
            self._recording = self._record(images)
        return self._recording

    def _record(self, images: Tensor) -> Recording | None:
        """Return the recorded passes; the network's statistics and all randomness stay as they are."""
        device = images.device
        if _FAILED:
            self.refused = "a recording failed in this process"
            return None
        taken = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
        free = free_memory(device)
        if taken > LARGEST_SHARE * free:
            self.refused = f"a pass takes {taken / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free"
            return None
        generator = torch.cuda.default_generators[device.index or 0]
        stream, buffers = torch.cuda.current_stream(device), list(self.model.buffers())
        try:
            kept = [buffer.clone() for buffer in buffers]
            spare = generator.clone_state()
            recording = Recording(self.model, images, self.precision)
        except torch.OutOfMemoryError:
            self.refused = "the memory did not suffice"
            return None
        try:
            with torch.random.fork_rng(devices=[device]):
                recording.record()
        except RuntimeError as error:
            torch.cuda.set_stream(stream)
            stream.wait_stream(_side_stream(device))
            if recording.begun:
                # Torch leaves the generator in the middle of a capture, and looks at its graphs later on.
                generator.graphsafe_set_state(spare)
                _FAILED.append((recording.forward, recording.backward))
            self.refused = str(error)[:160].partition("\n")[0] or type(error).__name__
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.data.copy_(value)
        return recording if self.refused is None else None


class Recording:
    """Forward and backward pass over images of one shape, and the memory in which they happen.

    `torch.cuda.make_graphed_callables` does the same; each of its callables takes streams of its own, and for
    each stream cuBLAS keeps a workspace (tens of MiB) for good: a worker would lose as much with every trial.

    Args:
        model: In training mode. Parameters that need gradients get them.
        images: `(B, C, H, W)`.
        precision: The number format.
    """

    def __init__(self, model: nn.Module, images: Tensor, precision: Precision) -> None:
        self.model, self.precision = model, precision
        self.images = images.detach().clone()
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.forward, self.backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        self.anchor = torch.zeros((), device=images.device, requires_grad=True)
        self.begun = False
        """Whether a capture has begun, out of which there is no clean way back."""

    def record(self) -> None:
        """Take down both passes; statistics and randomness move on.

        Raises:
            RuntimeError: If the network does something that cannot be recorded, or memory does not suffice.
        """
        device = self.images.device
        stream = _side_stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream), no_waiting():
            logits = self._pass()  # what is done once (workspaces, choice of kernels) stays out of the graphs
            self._gradients_of(logits, torch.zeros_like(logits))
            del logits
        torch.cuda.current_stream(device).wait_stream(stream)
        self.begun = True
        with torch.cuda.graph(self.forward, stream=stream):
            logits = self._pass()
        self.upstream = torch.zeros_like(logits)
        with torch.cuda.graph(self.backward, pool=self.forward.pool(), stream=stream):
            found = self._gradients_of(logits, self.upstream)
            self.gradients = owned(found, self.parameters)
        self.logits = logits.detach()

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits `(B, K)`; once they have a gradient, the parameters have theirs."""
        logits: Tensor = _Replay.apply(self, images, self.anchor)
        return logits

    def _pass(self) -> Tensor:
        with self.precision.autocast(self.images.device, caches=False):
            logits: Tensor = self.model(self.images)
        return logits

    def _gradients_of(self, logits: Tensor, upstream: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(self.images.device.type, enabled=False):  # as `backward()` is called otherwise
            return torch.autograd.grad(logits, self.parameters, upstream, allow_unused=True)


class _Replay(torch.autograd.Function):
    """Replays a recording; `anchor` has autograd come back for the backward pass.

    Handing each parameter's gradient over to autograd would cost as much of Python's time as all the rest.
    """

    @staticmethod
    def forward(ctx: Any, recording: Recording, images: Tensor, anchor: Tensor) -> Tensor:
        ctx.recording = recording
        recording.images.copy_(images)
        recording.forward.replay()
        return recording.logits.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, None, None]:
        recording: Recording = ctx.recording
        recording.upstream.copy_(upstream)
        recording.backward.replay()
        for parameter, gradient in zip(recording.parameters, recording.gradients, strict=True):
            parameter.grad = gradient
        return None, None, None


def owned(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Return gradients each in memory of its own, laid out as its parameter, as fused optimizers insist.

    Parameters that are added to each other have one gradient, which each of them may be told to clip.
    """
    found: list[Tensor | None] = []
    taken: set[int] = set()
    for gradient, parameter in zip(gradients, parameters, strict=True):
        if gradient is not None and (
            gradient.stride() != parameter.stride() or gradient.untyped_storage().data_ptr() in taken
        ):
            gradient = torch.empty_like(parameter).copy_(gradient)
        if gradient is not None:
            taken.add(gradient.untyped_storage().data_ptr())
        found.append(gradient)
    return found


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise RuntimeError where the GPU is asked for a number: out of a recording there is no clean way back."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype, and says so
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)


_FAILED: list[tuple[torch.cuda.CUDAGraph, torch.cuda.CUDAGraph]] = []
"""Graphs that broke off: torch's allocator may still ask them which memory is theirs. Then none begins."""


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of this process on which passes are recorded."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's has no types


def free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU's memory that this process may still take."""
    free, total = torch.cuda.mem_get_info(device)
    fraction = getattr(torch.cuda, "get_per_process_memory_fraction", None)  # not in every torch
    if fraction is not None:
        # By its index, None for the current one: a device without an index is refused here alone.
        free = min(free, int(fraction(device.index) * total) - torch.cuda.memory_reserved(device))
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
