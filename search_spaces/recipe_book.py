"""Recipes: whole configurations with a name and a source, to train, or to start a search from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from analysis.errors import unknown_name
from search_spaces.yaml_files import named_files, read_mapping
from trainable.component import validated
from trainable.config import TrialConfig

RECIPES = Path(__file__).parent / "recipes"
ABOUT = ("source", "summary", "reduced")
"""Keys of a recipe's file that are no part of the configuration."""


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe as a list shows it."""

    name: str
    source: str
    summary: str


def list_recipes() -> list[RecipeEntry]:
    """Return the recipes, by name."""
    found = {name: read_mapping(path)[0] for name, path in named_files(RECIPES).items()}
    return [RecipeEntry(name, str(data["source"]), str(data["summary"])) for name, data in found.items()]


def load_recipe(name: str, *, reduced: bool = False) -> TrialConfig:
    """Return the configuration of the recipe called `name`.

    Args:
        name: Of a file in the recipes' folder, without its ending.
        reduced: Take the small relative of its network that the recipe names, from random weights: for a
            comparison of recipes on a few CPU cores.

    Raises:
        UsageError: If there is no such recipe, with the nearest name.
    """
    known = named_files(RECIPES)
    if name not in known:
        raise unknown_name("recipe", name, known)
    data, _ = read_mapping(known[name])
    config = {key: data[key] for key in data if key not in ABOUT}
    if reduced:
        config["backbone"] = {"name": data["reduced"]}
    return validated(TrialConfig, config, name)
