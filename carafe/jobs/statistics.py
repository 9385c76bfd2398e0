"""Fixed histogram boundaries, the same in the statistics tables and in the Prometheus metrics, so that both agree."""

BOUNDS = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
)
"""Upper bounds in seconds of wait (due to start) and run (start to end). Bucket n of a delta row lies below BOUNDS[n]."""
