"""A bundle at work: image files or arrays in, probabilities out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from analysis.errors import TailtuneError
from trainable.augment.pipeline import Pipeline
from trainable.bundle import WEIGHTS, Preprocessing, load_model
from trainable.config import Resize, TrialConfig
from trainable.cpu_kernels import quicken
from trainable.data.decode import decode_image
from trainable.evaluate import predict_logits
from trainable.precision import Precision, keep_in_fp32, wants_channels_last
from trainable.tta import View


class _Images:
    """A batch of nothing but images."""

    def __init__(self, images: Tensor) -> None:
        self.images = images


class Predictor:
    """A trained network with its preprocessing.

    Args:
        model: In evaluation mode, on `device`.
        preprocessing: As it was in training.
        precision: Number format of the forward pass.
        device: Where to compute.
        views: Of test-time augmentation, as in training.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        precision: Precision,
        device: torch.device,
        views: Sequence[View] = (),
    ) -> None:
        self.model, self.preprocessing, self.views = model, preprocessing, views
        self.precision, self.device = precision, device
        mean, std = (
            torch.tensor(row, device=device, dtype=torch.float32).view(1, -1, 1, 1)
            for row in (preprocessing.mean, preprocessing.std)
        )
        self._pipeline = Pipeline((), mean, std)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str | None = None) -> Predictor:
        """Return the predictor of the bundle in `folder`.

        Args:
            folder: As `tailtune export` or `tailtune train` wrote it.
            device: None takes the GPU where there is one.

        Raises:
            TailtuneError: If a file is missing or damaged.
        """
        folder = Path(folder)
        if not (folder / "config.yaml").is_file():
            raise TailtuneError(
                f"{folder} is no bundle: it has no config.yaml", "make one by `tailtune export`"
            )
        config = TrialConfig.from_file(folder / "config.yaml")
        preprocessing = Preprocessing.read(folder)
        target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        wanted = config.training.precision
        name: Literal["fp32", "bf16", "fp16"] = "fp32" if wanted == "auto" else wanted
        model = load_model(config, preprocessing, folder / WEIGHTS)
        if target.type == "cpu":  # as the trial computed
            quicken(model, config, trains=False)
        size, channels = preprocessing.image_size, preprocessing.channels
        precision = Precision(name, wants_channels_last(model, size, channels, target, 0, name))
        model = model.to(target).to(memory_format=precision.memory_format)
        if target.type == "cpu" and name == "bf16":
            keep_in_fp32(model, size, channels)
        return cls(model, preprocessing, precision, target, config.tta.views(config.data.flips))

    def logits(self, images: NDArray[np.uint8], batch_size: int = 256) -> NDArray[np.float16]:
        """Return logits `(N, C)` float16 of decoded images `(N, H, W, image_channels)` uint8."""
        batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
        return predict_logits(self.model, self._prepared(batches), self.precision, self.device, self.views)

    def predict(self, paths: Sequence[str | Path]) -> NDArray[np.float64]:
        """Return probabilities `(N, C)` of image files.

        Raises:
            TailtuneError: If a file is no image that can be shown.
        """
        z = self.logits(np.stack([self._decoded(Path(path)) for path in paths])).astype(np.float64)
        z = np.exp(z - z.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = z / z.sum(axis=1, keepdims=True)
        return probabilities

    def _prepared(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[_Images]:
        for images in batches:
            raw = torch.from_numpy(np.array(images)).to(self.device).permute(0, 3, 1, 2)
            layout = self.precision.memory_format
            yield _Images(self._pipeline(raw, self.preprocessing.image_size, None, layout))

    def _decoded(self, path: Path) -> NDArray[np.uint8]:
        try:
            return decode_image(
                path,
                image_size=self.preprocessing.image_size,
                resize=cast(Resize, self.preprocessing.resize),
                channels=self.preprocessing.image_channels,
            )
        except Exception as error:  # Pillow raises many kinds for a file that is no image
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TailtuneError(f"{path} is no image that can be shown: {reason}") from None
