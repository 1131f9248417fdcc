"""What a network gets to see: a sheet of augmented images, a row for each class."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from analysis.atomic import write_atomic
from analysis.errors import UsageError, unknown_name
from search_spaces.recipe_book import list_recipes, load_recipe
from search_spaces.space import list_spaces, load_space
from tailtune.audit_page import tile
from trainable.augment import AUGMENT
from trainable.config import DataConfig, TrialConfig
from trainable.data.batches import Batches
from trainable.data.dataset import ImageDataset, Split
from trainable.mixing import MIXING
from trainable.precision import Precision

Positions = NDArray[np.int64]

COLUMNS = 10
"""Augmented images of each class, beside the original."""
MOST_CLASSES = 24
TILE, GAP, NAME = 64, 3, 190


def configurations(name: str, data: DataConfig, columns: int = COLUMNS) -> list[TrialConfig]:
    """Return a configuration for each column: a space's vary, a recipe's and an operation's are one.

    Args:
        name: A recipe, a space, a file of either, an augmentation or a mixing.
        data: How images are decoded.
        columns: How many.

    Raises:
        UsageError: If nothing answers to the name.
    """
    base = TrialConfig(data=data)
    if name in AUGMENT:
        return [base.model_copy(update={"augment": (AUGMENT.parse(name),)})] * columns
    if name in MIXING:
        return [base.model_copy(update={"mixing": MIXING.parse(name)})] * columns
    recipes, spaces = ({entry.name for entry in of} for of in (list_recipes(), list_spaces()))
    if name in recipes:
        return [load_recipe(name).model_copy(update={"data": data})] * columns
    if name not in spaces and not Path(name).is_file() and ":" not in name:
        raise unknown_name(
            "space, recipe or operation", name, [*AUGMENT.names(), *MIXING.names(), *recipes, *spaces]
        )
    space = load_space(name)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask(), base) for _ in range(columns)]


def contact_sheet(dataset: ImageDataset, split: Split, name: str, data: DataConfig) -> bytes:
    """Return a PNG: a row a class (from the largest to the smallest), the original, then `COLUMNS` draws.

    Raises:
        UsageError: If nothing answers to `name`.
    """
    chosen = _one_of_each(dataset, split)
    columns = [_augmented(dataset, split.train, chosen, c, i) for i, c in enumerate(configurations(name, data))]
    step = TILE + GAP
    sheet = Image.new("RGB", (NAME + (COLUMNS + 1) * step + GAP, len(chosen) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for row, position in enumerate(chosen.tolist()):
        label = dataset.class_names[int(dataset.labels[position])]
        draw.text(
            (4, row * step + TILE // 2 - 6), label if len(label) <= 28 else f"{label[:27]}…", fill="black"
        )
        sheet.paste(tile(np.asarray(dataset.images[position]), TILE), (NAME, row * step))
        for column, images in enumerate(columns, start=1):
            sheet.paste(tile(images[row], TILE), (NAME + column * step + GAP, row * step))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _one_of_each(dataset: ImageDataset, split: Split) -> Positions:
    """Return a training image of each class, by falling count; of many classes, an even choice."""
    counts = dataset.class_counts(split.train)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    if len(order) > MOST_CLASSES:
        order = order[np.linspace(0, len(order) - 1, MOST_CLASSES, dtype=int)]
    labels = dataset.labels[split.train]
    return np.array([split.train[np.flatnonzero(labels == label)[0]] for label in order], dtype=np.int64)


def _augmented(
    dataset: ImageDataset, train: Positions, chosen: Positions, config: TrialConfig, epoch: int
) -> NDArray[np.uint8]:
    """Return the images as a training batch holds them, `(N, H, W, C)`, the normalisation undone."""
    epochs = max(config.epochs, epoch + 1)
    config = config.model_copy(update={"batch_size": max(2, len(chosen)), "epochs": epochs})
    batches = Batches(
        dataset,
        train,
        config=config,
        device=torch.device("cpu"),
        precision=Precision("fp32", channels_last=False),
    )
    mean, std = (
        torch.tensor(row).view(1, -1, 1, 1) for row in (batches.normalisation.mean, batches.normalisation.std)
    )
    parts = [batch.images for batch in batches.train(np.searchsorted(train, chosen), epoch)]
    pixels = ((torch.cat(parts) * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
    shown: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).numpy()
    return shown


def write_sheet(png: bytes, path: Path) -> None:
    """Write the sheet.

    Raises:
        UsageError: If the name does not end in `.png`.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--sheet must name a .png file, got {path}")
    write_atomic(path, png)
