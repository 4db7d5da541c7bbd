"""What only a GPU can show, stage after stage: ``make gpu-check``, or ``python -m benchmarks.gpu``.

It needs a Python with torch and the packages that selfloop itself needs; no virtual environment, network or pytest.
"""
