"""How a worker process begins. It imports next to nothing, so that a worker leaves with its parent from early on."""

from __future__ import annotations

import os
import signal
import threading
import time


def begin(parent: int) -> None:
    """Leave with the parent, leave Ctrl-C to it, and use one thread; for a process that has just been started."""
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    # Ctrl-C reaches the whole process group: only the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    import torch

    torch.set_num_threads(1)


def _leave_with(parent: int) -> None:
    """End this process soon after its parent: one that was killed cannot tell its workers to stop."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
