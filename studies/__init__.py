"""Studies whose results the documentation shows: what they compute from finished runs or simulate, and the tables they print."""
