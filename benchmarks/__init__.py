"""Carafe measured side by side with its peers on one machine; run with `python -m benchmarks` (see README.md).

Nothing here is part of the library, and nothing in the library may import it.
"""
