"""``python -m tests.campaign [--minutes N] [--part kills …] [--seed S] [--json FILE]``: try to break selfloop.

Prints each failure as it is found and a table in the end: by part and kind, how many tries and failures. Exits 1 where
there is a failure.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tests.campaign import Try

HERE = Path(__file__).parent
PARTS = [name for name in ("kills", "damage", "hostile", "fuzz", "load") if (HERE / f"{name}.py").exists()]


def table(done: list[Try]) -> str:
    """Return the tries and failures of each part and kind as a Markdown table."""
    tries = Counter[tuple[str, str]]()
    for each in done:
        tries[each.part, each.kind] += each.inputs
    failures = Counter((each.part, each.kind) for each in done if each.found)
    rows = [f"| {part} | {kind} | {n:,} | {failures[part, kind]:,} |" for (part, kind), n in tries.items()]
    total = f"| | **all** | **{tries.total():,}** | **{failures.total():,}** |"
    return "\n".join(["| part | kind | tries | failures |", "|---|---|--:|--:|", *rows, total])


def main() -> int:
    """Run the parts that are asked for, one after the other, in equal shares of the time."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="for all parts together")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="keep every try in this file, a line each")
    asked = parser.parse_args()
    done: list[Try] = []
    sys.path.insert(0, str(HERE.parent))  # where the helpers of all tests are
    with contextlib.ExitStack() as closing:
        folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="selfloop-campaign-"))
        kept = closing.enter_context(open(asked.json or os.devnull, "w", encoding="utf-8", buffering=1))
        closing.enter_context(contextlib.suppress(KeyboardInterrupt))  # the table is of what was tried until then
        for part in asked.part:
            start = time.monotonic()
            module = importlib.import_module(f"tests.campaign.{part}")
            (place := Path(folder) / part).mkdir()
            for each in module.tries(asked.minutes / len(asked.part), asked.seed, place):
                done.append(each)
                kept.write(json.dumps(asdict(each)) + "\n")
                if each.found:
                    print(f"{each.part}, {each.kind}: {each.what}: {each.found}", flush=True)
            print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    print(table(done))
    return 1 if any(each.found for each in done) else 0


if __name__ == "__main__":
    sys.exit(main())
