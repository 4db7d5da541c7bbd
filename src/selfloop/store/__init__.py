"""The run directory: what a run has committed, written atomically and checked whenever it is read.

::

    RUN/experiment.yaml  environment.json  real.safetensors  data-*.safetensors  metrics.jsonl  log.txt  lock
    RUN/generation-0003/{state-000.safetensors, samples-000.safetensors, …, manifest.json}
    RUN/report/

A generation is written under a hidden name and renamed when it is complete: that rename is the commit. Its manifest
holds the records of all arms and the SHA-256 of every file. A run that grows by arms gets their files into the
generations that are there, whose manifests are then replaced: that is their commit. ``metrics.jsonl`` repeats the
records for other programs to read, and is brought up to date from the manifests when the run is next opened for
writing. Nothing here is a pickle, and reading needs neither the data nor the code that a run was made with.
"""

from selfloop.store.admission import belongs, check
from selfloop.store.run import Run
from selfloop.store.writer import Writer

__all__ = ["Run", "Writer", "belongs", "check"]
