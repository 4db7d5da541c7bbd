"""Where a set of events comes from on the command line, and where images go: pictures, arrays, tables, a run."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from selfloop.core.errors import DataError, RunError, quoted
from selfloop.data.reading.images import read_images, read_pictures
from selfloop.data.reading.tables import read_table
from selfloop.store import Run

_RUN = re.compile(r"(?P<path>.+)@(?P<what>train|held_out|\d{1,6})(/(?P<arm>\d{1,6}))?")


def read_events(source: str) -> Tensor:
    """Read a set of events.

    ``source`` is a folder or zip of PNG and JPEG files; an NPY or NPZ of uint8 images (N, H, W) or (N, H, W, C) or of
    rows (N, d); a CSV or Parquet table; or ``RUN@3`` for the samples of a run's generation 3, ``RUN@train`` and
    ``RUN@held_out`` for its real data, of arm 0 or, with ``/5`` at the end, of arm 5.

    Returns:
        uint8 images (N, C, H, W), or rows (N, d).

    Raises:
        DataError, RunError: there is no such source, or it is damaged; the message names it.
    """
    path = Path(source)
    if (match := _RUN.fullmatch(source)) and not path.exists():
        return of_run(Path(match["path"]), match["what"], int(match["arm"] or 0))
    if path.is_dir() and (path / "experiment.yaml").is_file():
        raise RunError(
            f"{source!r} is a run: say which generation, as {source}@{Run.open(path).last}, or {source}@train"
        )
    if path.is_dir():
        return read_pictures(path)
    if not path.is_file():
        raise DataError(f"{source!r} does not exist")
    if path.suffix.lower() == ".zip":
        return read_pictures(path)
    images = read_images(path) if path.suffix.lower() in (".npy", ".npz") else None
    return torch.from_numpy(read_table(source)) if images is None else images


def of_run(path: Path, what: str, arm: int) -> Tensor:
    """Read one arm's samples of generation ``what``, or its real data, "train" or "held_out".

    Returns:
        uint8 images (N, C, H, W), flattened ones among them, or rows (N, d).

    Raises:
        RunError: there is no such run, generation or arm, it is damaged, or the arm has diverged by then.
    """
    run = Run.open(path)
    if arm >= len(run.arms):
        raise RunError(f"{str(path)!r} has the arms 0 to {len(run.arms) - 1}, no {arm}")
    if what in ("train", "held_out"):
        split = run.split(arm)
        x = (split.train if what == "train" else split.held_out)[0]
    else:
        x = _samples(run, what, arm)
    pixels = run.real(arm).events.pixels(x)
    return x if pixels is None else pixels


def _samples(run: Run, what: str, arm: int) -> Tensor:
    if not re.fullmatch("[0-9]{1,6}", what):
        raise RunError(f"{quoted(what, 40)} is no generation of {str(run.path)!r}: give a number, train or held_out")
    if int(what) > run.last:
        there = f"the generations 0 to {run.last}, no {what}" if run.last >= 0 else "no generation yet"
        raise RunError(f"{str(run.path)!r} has {there}")
    x = run.samples(int(what), arm)
    if not len(x):
        raise RunError(f"arm {arm} of {str(run.path)!r} has diverged by generation {what}: it has no samples")
    return x


def write_pictures(images: Tensor, folder: Path, progress: Callable[[int], None] = lambda done: None) -> None:
    """Write uint8 (N, 1 or 3, H, W) images as 000000.png, 000001.png, … into a folder, there whole at the end.

    Raises:
        DataError: these are no images, or there is something in the folder.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise DataError(f"{str(folder)!r}: there are no pictures to write, this run's events are vectors")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{str(folder)!r} is there already: give the name of a new directory")
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for i, image in enumerate(images.numpy()):
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(hidden / f"{i:06d}.png")
            progress(i + 1)
        hidden.chmod(0o755)
        hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
