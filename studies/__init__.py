"""Studies whose results the documentation shows: what they compute from finished runs, and the tables they print."""
