"""The queue in Redis: hints, which say in order which jobs may be claimable."""
