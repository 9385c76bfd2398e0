"""Deliberately broken builds: the suite must catch each of them. See `chaos.broken.builds`."""
