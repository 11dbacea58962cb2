"""What `models/NAME.pt` holds: a family's name, its configuration, its weights, and what they expect."""

import importlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pianoai.models.base import FrameModel
from pianoai.runtime.errors import InputError

FAMILIES = ("copy", "gan", "wgan", "transformer")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model as it stands in a file."""

    family: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    window: int
    frames_per_beat: int
    data: str  # checksum of the windows it was trained on

    def model(self) -> FrameModel:
        """The model, ready to predict."""
        module = family(self.family)
        model: FrameModel = module.Model(module.Config(**self.config), self.window)
        model.load_state_dict(self.weights)
        return model.eval()

    def write(self, path: Path) -> None:
        """Save it; equal contents under the same file name give equal bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(asdict(replace(self, weights=dict(sorted(self.weights.items())))), path)


def family(name: str) -> ModuleType:
    """The module pianoai.models.NAME: `Config`, `Model`, `Training`. Raises InputError for another name."""
    if name not in FAMILIES:
        raise InputError(f"model: '{name}' is unknown; there are {', '.join(FAMILIES)}")
    return importlib.import_module(f"pianoai.models.{name}")


def read(path: Path) -> Checkpoint:
    """The checkpoint in `path`. Raises InputError when it is not there or is no checkpoint."""
    try:
        return Checkpoint(**torch.load(path, weights_only=True))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run the stage that trains it") from None
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint of this project ({type(error).__name__})") from None
