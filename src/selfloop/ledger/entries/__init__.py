"""The entries, one file a paper; each defines ``ENTRY``."""
