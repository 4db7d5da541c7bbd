"""Networks of Hugging Face's diffusers as ``save_pretrained`` leaves them: a folder, or a file of weights alone.

Nothing is fetched, and nothing in a file is executed: ``.safetensors`` holds tensors alone, and ``.bin``, a pickle, is
read by the stack machine of :mod:`selfloop.interop.pickles`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from selfloop.core.errors import DataError, quoted
from selfloop.interop.archives import read_file
from selfloop.interop.limits import Refusal, damaged
from selfloop.interop.modules import named_tensors

_CONFIG = "config.json"
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_LARGEST, _HEADER = 2**20, 2**23  # bytes of a config, and of what safetensors say of their tensors
_APART = ("sample_size", "in_channels", "out_channels", "num_class_embeds")


@dataclass(frozen=True)
class Config:
    """What ``config.json`` says of a UNet2DModel.

    Attributes:
        arguments: of the network, but for those that follow from images and classes.
        channels: of the images.
        sides: their height and width; None where it does not say.
        classes: how many it knows of; None where it is told of none, or of any number.
    """

    arguments: dict[str, Any]
    channels: int
    sides: tuple[int, int] | None
    classes: int | None


def read_config(folder: Path) -> Config | None:
    """Read what a folder says of its network; None where it has no ``config.json``.

    Raises:
        DataError: it is damaged, or of something else than a UNet2DModel.
    """
    file = folder / _CONFIG
    if not file.is_file():
        return None
    what = f"checkpoint {quoted(file, 300)}"
    try:
        if file.stat().st_size > _LARGEST:
            raise DataError(f"{what} is larger than {_LARGEST >> 20} MiB")
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{what} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is damaged: it is no JSON") from error
    kind = found.get("_class_name") if isinstance(found, dict) else None
    if kind != "UNet2DModel":
        raise DataError(f"{what} is of {quoted(kind, 40)}, not of UNet2DModel")
    size, channels, classes = found.get("sample_size"), found.get("in_channels", 3), found.get("num_class_embeds")
    sides = tuple(size) if isinstance(size, list) else (size, size) if size is not None else None
    whole = (*(sides or ()), channels, *(() if classes is None else (classes,)))
    if (sides is not None and len(sides) != 2) or not all(type(number) is int and number > 0 for number in whole):
        raise DataError(f"{what} is damaged: sizes, channels and classes are whole numbers above 0")
    if found.get("out_channels", 3) != channels:
        raise DataError(f"{what} is of a network whose images change their channels: only denoisers are read")
    arguments = {name: value for name, value in found.items() if not name.startswith("_") and name not in _APART}
    return Config(arguments, channels, sides, classes)


def weights_file(path: Path) -> Path:
    """Return the file of weights in a folder, safetensors where there are both kinds; of a file itself, itself."""
    if not path.is_dir():
        return path
    return next((path / name for name in _WEIGHTS if (path / name).is_file()), path / _WEIGHTS[0])


def _refuse_crowded(file: Path) -> None:
    """Refuse a header that names more tensors than any network has, each of which costs a kilobyte.

    Raises:
        Refusal: it is one.
    """
    with file.open("rb") as held:
        length = int.from_bytes(held.read(8), "little")
    if length > _HEADER:
        raise damaged(f"its header claims {length:,} bytes; the limit is {_HEADER:,}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file of weights, or in a folder with one, by name.

    Raises:
        DataError: there is none, or it is damaged or unsafe.
    """
    file = weights_file(path)
    source = f"checkpoint {quoted(file, 300)}"
    if not file.is_file():
        raise DataError(f"{source} does not exist: name a folder with {' or '.join(_WEIGHTS)}, or such a file")
    try:
        if file.suffix == ".safetensors":
            _refuse_crowded(file)
            return load_file(file)
        value, _ = read_file(file)
        if not isinstance(value, dict):
            raise Refusal("holds no named tensors; save the network's state_dict there")
        return named_tensors(value, "it")
    except SafetensorError as error:
        raise DataError(f"{source} is damaged: {quoted(error, 120)}") from error
    except Refusal as refusal:
        raise DataError(f"{source} {refusal}") from refusal
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or quoted(error)}") from error
