"""Where a set of events comes from on the command line: pictures, arrays, tables, a run."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from selfloop.core.errors import DataError, RunError, listed, quoted
from selfloop.core.events import Events, Images, Mixed, Text, Vectors
from selfloop.core.paths import expanded, here, is_url
from selfloop.core.tokens import Bytes
from selfloop.core.urls import fetched
from selfloop.data.kept import digest
from selfloop.data.reading.images import read_images, read_pictures
from selfloop.data.reading.kinds import numbering_note
from selfloop.data.reading.memory import is_frame, of_frame, plain_frame, read_array
from selfloop.data.reading.sheets import ENDINGS, Sheet
from selfloop.data.reading.tables import Choice, Coded, Rows, chosen, like_sheet, of_sheet, read_rows, without
from selfloop.data.reading.texts import JSON_LINES, PLAIN, TEXT, Unit, encoded, is_corpus, read_texts
from selfloop.store import Run
from selfloop.store.schema import stack_file

_AS_IT_IS = Choice(settings=False)  # a table: nobody says what is taken of it
_BLOCK = 256  # tokens of a row of text at most

_RUN = re.compile(r"(?P<path>.+)@(?P<what>train|held_out|\d{1,6})(/(?P<arm>\d{1,6}))?")


@dataclass(frozen=True, kw_only=True)
class EventSet:
    """Events, and what they are.

    Attributes:
        source: what the user calls them.
        x: (N, *event), in model units.
        events: what a row is.
        kind: "pictures", an "array", whose columns have no names, a "table", "text", or those of a "run", whose model
            has units for them.
        labels: (N,) int64, the classes of rows of a run that has some; None elsewhere.
        units: (K,) int64, how many rows each document of text fills, one after the other; None where each has one, or
            where they are not known.
        notes: what is taken as it stands, and may mean something else, as an id among numbers.
    """

    source: str
    x: Tensor
    events: Events
    kind: Literal["pictures", "array", "table", "text", "run"]
    labels: Tensor | None = None
    units: Tensor | None = None
    notes: tuple[str, ...] = ()

    @property
    def pictures(self) -> Tensor | None:
        """The uint8 (N, C, H, W) that they are, flattened ones among them; None where they are no pictures."""
        return self.events.pixels(self.x)


def read_events(
    source: str, least: int = 3, like: Events | None = None, real: bool = False, leave_out: Sequence[str] = ()
) -> EventSet:
    """Read a set of events.

    ``source`` is a folder or zip of PNG and JPEG files; an NPY or NPZ of uint8 images (N, H, W) or (N, H, W, C) or of
    rows (N, d); a CSV or Parquet table; text, a line of a .txt, a file of a folder of them or a line of JSON Lines an
    event; or ``RUN@3`` for the samples of a run's generation 3, ``RUN@train`` and
    ``RUN@held_out`` for its real data, of arm 0 or, with ``/5`` at the end, of arm 5. Each may lie elsewhere, and be
    named by its URL.

    Args:
        source: where from.
        least: how many rows a table must have.
        like: what other rows are, by whose columns a table is read, and by whose tokens text; None finds out what its
            own are.
        real: whether it is real text, whose empty lines are no events, as samples may be.
        leave_out: columns of a table that are not taken; rows that are read by the columns of others may lack them.

    Raises:
        DataError, RunError: there is no such source, or it is damaged; the message names it.
    """
    if (match := run_of(source)) is not None:
        return of_run(here(match["path"]), match["what"], int(match["arm"] or 0), source)
    path = on_disk(source)
    if path.is_dir() and (path / "experiment.yaml").is_file():
        raise RunError(
            f"{source!r} is a run: say which generation, as {source}@{Run.open(path).last}, or {source}@train"
        )
    if not path.is_dir() and not path.is_file():
        raise DataError(f"{source!r} does not exist")
    is_array = path.suffix.lower() in (".npy", ".npz")
    if leave_out and like is None and (path.is_dir() or is_array or is_corpus(path) or path.suffix.lower() == ".zip"):
        raise no_columns(source)
    if isinstance(like, Text) or is_corpus(path):
        return _of_text(source, path, like, real)
    if path.is_dir() or path.suffix.lower() == ".zip":
        return _of_images(source, read_pictures(path))
    images = read_images(path) if is_array else None
    if images is not None:
        return _of_images(source, images)
    if not is_array and isinstance(like, Mixed | Vectors):
        return _like(source, chosen(str(path), _AS_IT_IS), like, leave_out)
    choice = replace(_AS_IT_IS, leave_out=leave_out)
    return _of_rows(source, read_rows(str(path), least=least, choice=choice), "array" if is_array else "table")


def no_columns(source: str) -> DataError:
    """Return what to say where columns of something else than a table are to be left out."""
    return DataError(f"{source!r} is no table, and has no columns to leave out: leave leave_out (--leave-out) out")


def run_of(source: str) -> re.Match[str] | None:
    """Return the parts of a source that names a run's generation, "path", "what" and "arm"; None of any other."""
    return None if not is_url(source) and expanded(source).exists() else _RUN.fullmatch(source)


def on_disk(source: str) -> Path:
    """Return the file or folder that a source names, fetched if it lies elsewhere."""
    return Path(fetched(source)) if is_url(source) else expanded(source)


def tokens_of(sources: Iterable[str]) -> Text | None:
    """Return what the text of the first run is that some sources name; None where there is no run, or it has no text.

    Raises:
        RunError: there is no such run or arm, or it is damaged.
    """
    for match in filter(None, map(run_of, sources)):
        events = _opened(here(match["path"]), int(match["arm"] or 0)).real(int(match["arm"] or 0)).events
        return events if isinstance(events, Text) else None
    return None


def held(x: Any, source: str, least: int = 3, like: Events | None = None, leave_out: Sequence[str] = ()) -> EventSet:
    """Return what a program holds in memory, an array, a tensor or a data frame, as a set of events.

    Raises:
        DataError: it is none of these, or not what :func:`selfloop.data.reading.memory.read_array` takes.
    """
    if is_frame(x):
        if isinstance(like, Mixed | Vectors):
            return _like(source, replace(of_frame(x, source), settings=False), like, leave_out)
        sheet = replace(of_frame(x, f"{source} {tuple(x.shape)}"), settings=False)
        return _of_rows(source, of_sheet(without(sheet, leave_out), {}, least), "table")
    if leave_out and like is None:
        raise no_columns(source)
    rows = read_array(x, source, least=least)
    if isinstance(rows, Tensor):
        return _of_images(source, rows)
    return _of_rows(source, rows, "array")


def _of_rows(source: str, rows: Rows | Coded, kind: Literal["array", "table"]) -> EventSet:
    events = rows.events if isinstance(rows, Coded) else Vectors.unscaled(tuple(rows.columns))
    notes = () if isinstance(rows, Coded) else tuple(f"{source}: {numbering_note(name)}" for name in rows.numbering)
    return EventSet(source=source, x=torch.from_numpy(rows.values), events=events, kind=kind, notes=notes)


def _like(source: str, sheet: Sheet, like: Mixed | Vectors, leave_out: Sequence[str]) -> EventSet:
    """Return the rows of a table by the columns of others: of numbers alone in their own units."""
    sheet = sheet.only([name for name in sheet.columns if name not in leave_out])
    if isinstance(like, Mixed):
        refuse_other_columns(source, sheet.columns, "the real rows", [part.name for part in like.parts])
    events = like if isinstance(like, Mixed) else Vectors.unscaled(tuple(sheet.columns))
    return EventSet(source=source, x=torch.from_numpy(like_sheet(sheet, events)), events=events, kind="table")


def refuse_other_columns(source: str, columns: Sequence[str], of: str, wanted: Sequence[str]) -> None:
    """Refuse a table that has other columns than real rows have, in whatever order.

    Args:
        source: names the table.
        columns: that it has.
        of: names the real rows.
        wanted: the columns of these.

    Raises:
        DataError: with the columns in which they differ, and what to do.
    """
    lost, more = [name for name in wanted if name not in columns], [name for name in columns if name not in wanted]
    if lost and more:
        raise DataError(
            f"{source!r} has the {_columns(more)} in place of {listed(lost)} of {of}: columns are matched by name, so "
            "give them the same"
        )
    if lost:
        names = shlex.quote(",".join(lost)) if all(map(str.isprintable, lost)) else "NAME,…"
        raise DataError(
            f"{source!r} lacks the {_columns(lost)} of {of}: add what is lacking, or leave it out of all by "
            f"--leave-out {names}"
        )
    if more:
        raise DataError(f"{source!r} has the {_columns(more)} beside those of {of}: write the file without")


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' * (len(names) > 1)} {listed(names)}"


def _of_text(source: str, path: Path, like: Events | None, real: bool) -> EventSet:
    """Return text as tokens: those of other rows, or bytes, of which a text has no other."""
    unit: Unit = "line" if path.suffix.lower() == PLAIN else "document"
    known = like if isinstance(like, Text) else None
    column = None  # the usual one, or that of the other rows
    if known is not None and known.column != TEXT and path.suffix.lower() in (*JSON_LINES, *ENDINGS):
        column = known.column
    corpus = read_texts(str(path), column, unit, empty=known is not None and not real)
    tokenizer = Bytes() if known is None else known.tokenizer
    tokens = [encoded(each, tokenizer) for each in corpus.pieces]
    if known is None:
        known = Text(min(max(map(len, tokens)) + 1, _BLOCK), tokenizer, corpus.column, corpus.form)
    rows = [known.rows(each) for each in tokens]
    units = None if len(tokens) == sum(map(len, rows)) else torch.tensor([len(each) for each in rows])
    return EventSet(source=source, x=torch.from_numpy(np.concatenate(rows)), events=known, kind="text", units=units)


def held_digest(x: Any, source: str) -> str:
    """Return the SHA-256 of what a program holds in memory, whatever its columns are taken for.

    Raises:
        DataError: as :func:`held`.
    """
    if is_frame(x) and not plain_frame(x):
        return of_frame(x, source).digest()
    return digest(held(x, source, 0).x)


def fingerprint(source: str) -> str:
    """Return the SHA-256 of what a source holds, without making events of it: of its files, or by a run's manifest.

    Raises:
        DataError, RunError: there is no such source.
    """
    digest = hashlib.sha256()
    if (match := run_of(source)) is not None:
        run, arm = Run.open(here(match["path"])), int(match["arm"] or 0)
        stack, row = run.row(arm)
        refuse_beyond(run, match["what"])
        note = run.manifest(int(match["what"]))["stacks"][f"{stack:03d}"]["files"][stack_file("samples", stack)]
        digest.update(f"{note['sha256']} {row}".encode())
        return digest.hexdigest()
    path = on_disk(source)
    try:
        for file in files_below(path) if path.is_dir() else [path]:
            with open(file, "rb") as opened:
                inner = hashlib.file_digest(opened, "sha256").hexdigest()
            digest.update(f"{file.relative_to(path).as_posix()}\0{inner}\n".encode(errors="surrogatepass"))
    except OSError as error:
        raise DataError(f"{source!r} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def files_below(path: Path) -> list[Path]:
    """Return the files below a folder in the order of their paths, hidden ones left out."""
    found = []
    for folder, inner, names in os.walk(path, followlinks=True):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _of_images(source: str, images: Tensor) -> EventSet:
    return EventSet(source=source, x=images, events=Images(tuple(images.shape[1:])), kind="pictures")


def of_run(path: Path, what: str, arm: int, source: str = "") -> EventSet:
    """Read one arm's samples of generation ``what``, or its real data, "train" or "held_out".

    Raises:
        RunError: there is no such run, generation or arm, it is damaged, or the arm has ended by then.
    """
    run = _opened(path, arm)
    if what in ("train", "held_out"):
        split = run.split(arm)
        x = (split.train if what == "train" else split.held_out)[0]
        label = split.train_label if what == "train" else split.held_out_label
        labels = None if label is None else label[0]
    else:
        x, labels = _samples(run, what, arm), run.labels(int(what), arm)
    source = source or f"{path}@{what}/{arm}"
    return EventSet(source=source, x=x, events=run.real(arm).events, kind="run", labels=labels)


def _opened(path: Path, arm: int) -> Run:
    """Return the run that has an arm.

    Raises:
        RunError: there is none.
    """
    run = Run.open(path)
    if arm >= len(run.arms):
        raise RunError(f"{str(path)!r} has the arms 0 to {len(run.arms) - 1}, no {arm}")
    return run


def refuse_beyond(run: Run, what: str) -> None:
    """Refuse what is no generation of a run.

    Raises:
        RunError: with those that there are.
    """
    if not re.fullmatch("[0-9]{1,6}", what):
        raise RunError(f"{quoted(what, 40)} is no generation of {str(run.path)!r}: give a number, train or held_out")
    if int(what) > run.last:
        there = f"the generations 0 to {run.last}, no {what}" if run.last >= 0 else "no generation yet"
        raise RunError(f"{str(run.path)!r} has {there}")


def _samples(run: Run, what: str, arm: int) -> Tensor:
    refuse_beyond(run, what)
    x = run.samples(int(what), arm)
    if not len(x):
        how = next(record["status"] for record in run.of_generation(int(what)) if record["arm"] == arm)
        raise RunError(f"arm {arm} of {str(run.path)!r} has {how} by generation {what}: it has no samples")
    return x
