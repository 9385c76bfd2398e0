"""The applications of examples/: each does what its README says."""
