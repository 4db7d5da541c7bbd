"""Where a set of events goes: pictures, a table."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from selfloop.analysis.sources import EventSet
from selfloop.core.errors import DataError
from selfloop.core.events import Vectors
from selfloop.core.files import write_bytes

_ROUNDING = 1e-9  # of a column's range: by how much restored numbers may be beyond its bounds and still count as within


def write_pictures(
    images: Tensor | None,
    folder: Path,
    progress: Callable[[int], None] = lambda done: None,
    labels: Tensor | None = None,
) -> None:
    """Write uint8 (N, 1 or 3, H, W) images as 000000.png, 000001.png, … into a folder, there whole at the end.

    Their classes (N,), where they have some, are in ``dataset.json`` as EDM's data sets have it, which ``image_files``
    reads with ``labels: true``.

    Raises:
        DataError: these are no images, or there is something in the folder.
    """
    if images is None:
        raise DataError(f"{str(folder)!r}: there are no pictures to write, this run's events are vectors; use --csv")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{str(folder)!r} is there already: give the name of a new directory")
    folder.parent.mkdir(parents=True, exist_ok=True)
    hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for i, image in enumerate(images.numpy()):
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(hidden / f"{i:06d}.png")
            progress(i + 1)
        if labels is not None:
            rows = [[f"{i:06d}.png", label] for i, label in enumerate(labels.tolist())]
            (hidden / "dataset.json").write_text(json.dumps({"labels": rows}), encoding="utf-8")
        hidden.chmod(0o755)
        hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


def write_table(rows: EventSet, path: Path, form: str) -> int:
    """Write rows of numbers in the units, number types and bounds of the user's own columns.

    Args:
        rows: them.
        path: of a file that is not there yet.
        form: "csv" or "parquet".

    Returns:
        How many numbers lay beyond the bounds and are written as the nearest within.

    Raises:
        DataError: these are no rows of numbers, or the file is there already.
    """
    if not isinstance(rows.events, Vectors):
        raise DataError(
            f"{str(path)!r}: there are no rows of numbers to write, this run's events are images; use --png"
        )
    if path.exists():
        raise DataError(f"{str(path)!r} is there already: give the name of a new file")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, {"csv": _csv, "parquet": _parquet}[form](rows.events.table(rows.x)))
    return _beyond(rows.events, rows.x)


def _beyond(events: Vectors, x: Tensor) -> int:
    if not events.numbers:
        return 0
    low = torch.tensor([own.low for own in events.numbers], dtype=torch.float64)
    high = torch.tensor([own.high for own in events.numbers], dtype=torch.float64)
    whole = torch.tensor([np.dtype(own.dtype).kind in "iu" for own in events.numbers])
    restored, slack = events.restore(x), torch.where(whole, 0.5, _ROUNDING * (high - low))
    return int(((restored < low - slack) | (restored > high + slack)).sum())


def _csv(columns: dict[str, np.ndarray]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(column.astype(str) for column in columns.values()), strict=True))
    return text.getvalue().encode()


def _parquet(columns: dict[str, np.ndarray]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()
