"""An application of somebody else's, outside the repository, that runs on the wheel."""
