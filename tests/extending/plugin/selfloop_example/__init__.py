"""One member of every family of selfloop."""
