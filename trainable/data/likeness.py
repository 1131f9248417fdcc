"""What images look like in little: digests, small grey pictures, and hashes that near-copies share."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from trainable.data.cache import row_blocks

Floats = NDArray[np.float32]

SIDE = 32
"""Of the small pictures, in pixels."""
CHUNK = 1024
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Luma of ITU-R BT.601."""


def digests(images: NDArray[np.uint8]) -> list[bytes]:
    """Return 16 bytes for each of `(N, H, W, C)` images, equal where every pixel is."""
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest() for image in images]


def thumbnails(images: NDArray[np.uint8], side: int = SIDE) -> NDArray[np.uint8]:
    """Return `(N, side, side)` grey pictures of `(N, H, W, C)` images: means over the area of each pixel."""
    down, across = _areas(images.shape[1], side), _areas(images.shape[2], side).T
    out = np.empty((len(images), side, side), dtype=np.uint8)
    for block in row_blocks(images.shape):
        part = np.asarray(images[block], dtype=np.float32)
        grey = part @ _GREY if part.shape[3] == 3 else part[..., 0]
        out[block] = np.rint(down @ grey @ across)
    return out


def perceptual_hashes(pictures: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a hash of 64 bits for each of `(N, S, S)` grey pictures; a picture without contrast has 0.

    A bit says whether one of the 64 lowest frequencies of the picture's cosine transform, the mean left out,
    lies above their median. Brightness, contrast, size, blur and compression change few of them.

    Reference: Zauner 2010, Implementation and Benchmarking of Perceptual Image Hash Functions, section 3.2.1;
    there the frequencies are a square of 8 x 8, here the 64 lowest.
    """
    side = pictures.shape[1]
    across, down = np.meshgrid(np.arange(11), np.arange(11))
    lowest = np.lexsort((across.ravel(), (across + down).ravel()))[1:65]
    basis = np.cos(np.pi / side * np.outer(np.arange(11), np.arange(side) + 0.5)).astype(np.float32)
    powers = np.uint64(1) << np.arange(64, dtype=np.uint64)
    out = np.zeros(len(pictures), dtype=np.uint64)
    for start in range(0, len(pictures), CHUNK):
        part = pictures[start : start + CHUNK].astype(np.float32)
        waves = (basis @ part @ basis.T).reshape(len(part), -1)[:, lowest]
        bits = waves > np.median(waves, axis=1, keepdims=True)
        contrast = part.std(axis=(1, 2)) >= 1.0
        out[start : start + CHUNK] = np.where(contrast, bits @ powers, np.uint64(0))
    return out


def alike(pictures: NDArray[np.uint8], pairs: NDArray[np.int64], correlation: float) -> NDArray[np.bool_]:
    """Return `(P,)`: whether each pair's pictures correlate so much; flat ones are alike where both are flat.

    Args:
        pictures: `(N, S, S)`.
        pairs: `(P, 2)` positions.
        correlation: Pearson's, of the two pictures' pixels.
    """
    out = np.empty(len(pairs), dtype=np.bool_)
    for start in range(0, len(pairs), CHUNK):
        one, two = (_centred(pictures[of]) for of in pairs[start : start + CHUNK].T)
        scale = np.sqrt((one * one).sum(axis=1) * (two * two).sum(axis=1))
        flat = (np.abs(one).max(axis=1) < 1.0) & (np.abs(two).max(axis=1) < 1.0)
        out[start : start + CHUNK] = flat | ((one * two).sum(axis=1) >= correlation * np.maximum(scale, 1e-6))
    return out


def _centred(pictures: NDArray[np.uint8]) -> Floats:
    rows = pictures.reshape(len(pictures), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows


def _areas(size: int, side: int) -> Floats:
    """Return `(side, size)`: how much of each of `size` pixels lies in each of `side`, rows summing to 1."""
    edges = np.linspace(0, size, side + 1)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    shares: Floats = (np.clip(overlap, 0, None) * side / size).astype(np.float32)
    return shares
