"""Read another project's checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import say, show
from selfloop.core.paths import expanded


def command(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="a checkpoint of EDM, torchcfm or ddpm-torch", parser=expanded)
    ],
    out: Annotated[
        Path | None, typer.Option(help="a directory for the networks, as safetensors", parser=expanded)
    ] = None,
) -> int:
    """Show what another project's checkpoint holds, executing nothing in it, and write its networks as safetensors."""
    from selfloop import interop
    from selfloop.core.files import disk_errors, save_tensors

    found = interop.read_checkpoint(path)
    show(("what", "value"), interop.describe(found))
    if out is not None:
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            for name in found.networks:
                save_tensors(out / f"{name}.safetensors", interop.export(found, name))
                say(f"Wrote {out / name}.safetensors")
    return 0
