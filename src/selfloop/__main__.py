"""The program: ``selfloop``, or ``python -m selfloop``."""

import gc
import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it as quietly as later."""
    try:
        from selfloop.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        run()
    finally:
        gc.freeze()  # what is left ends with the process: to look for garbage in it takes most of a second


if __name__ == "__main__":
    main()
