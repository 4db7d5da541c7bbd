"""Every claim of speed, measured beside what a user would run instead: ``python -m benchmarks --help``."""
