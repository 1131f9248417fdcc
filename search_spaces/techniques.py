"""Techniques that could not work with something else in a space are refused when the space is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from search_spaces.declared import DeclaredSpace
from search_spaces.dimensions import Fields, ends
from search_spaces.families import Members
from search_spaces.space import SearchSpace
from trainable.backbones import supports
from trainable.component import validated
from trainable.config import TrialConfig
from trainable.teacher import check_teacher
from trainable.technique_rules import HEAD_ONLY

COMPANIONS = ("mixing", "tta")
"""Families that are no techniques, but exclude one."""
TECHNIQUES = (*(family for family in HEAD_ONLY if family not in COMPANIONS), "frozen", "posthoc")
MANY_EPOCHS = 1000
"""The run decides the epochs; here only what is wrong whatever they are counts."""


def check_space(
    families: Mapping[str, Members],
    backbones: tuple[str, ...],
    backbone: Fields,
    augment: Members,
    training: Fields,
) -> None:
    """Refuse a space in which some draw would be refused for its techniques.

    Args:
        families: The members of each family.
        backbones: Names of networks.
        backbone: Their fields.
        augment: Every augmentation that a trial may have.
        training: Fields of the training.

    Raises:
        UsageError: As the configuration that was drawn would be.
    """
    if all(list(families[family]) == ["none"] for family in TECHNIQUES):
        return
    origins = list(product(backbones, ends(backbone["pretrained"]), ends(backbone["weights"])))
    # Only frozen features care how features are fused.
    fusions = ends(backbone["fusion"]) if list(families["frozen"]) != ["none"] else ("none",)
    sources = [(*origin, fusion) for origin, fusion in product(origins, fusions) if _has(origin[0], fusion)]
    stops = list(product(ends(training["early_stopping"]), ends(training["compile"])))
    ops = list(_extremes(augment))
    for members in product(*(_extremes(families[family]) for family in (*TECHNIQUES, *COMPANIONS))):
        techniques = dict(zip((*TECHNIQUES, *COMPANIONS), members, strict=True))
        for (name, pretrained, weights, fusion), (stop, compiles) in product(sources, stops):
            validated(
                TrialConfig,
                {
                    **techniques,
                    "epochs": MANY_EPOCHS,
                    "augment": ops,
                    "backbone": {
                        "name": name,
                        "pretrained": pretrained,
                        "weights": weights,
                        "fusion": fusion,
                    },
                    "training": {"early_stopping": stop, "compile": compiles},
                },
            )


def _has(name: str, fusion: str) -> bool:
    return fusion == "none" or supports(name, "fusion")


def check_teachers(space: SearchSpace, class_names: tuple[str, ...]) -> None:
    """Refuse, before anything is trained, a teacher that a trial could not learn from.

    Args:
        space: A Python function's teachers are known only when it names them.
        class_names: Of the data.

    Raises:
        TailtuneError: If a teacher cannot be read, or has other classes.
    """
    members = space.families["distillation"] if isinstance(space, DeclaredSpace) else {}
    for fields in members.values():
        for folder in ends(fields["folder"]) if "folder" in fields else ():
            check_teacher(folder, class_names)


def _extremes(members: Members) -> Iterator[dict[str, Any]]:
    """Yield each member with the last value (the largest) of each field."""
    for name, fields in members.items():
        yield {"name": name, **{key: ends(dimension)[-1] for key, dimension in fields.items()}}
