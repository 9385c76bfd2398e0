"""Migrations of a release to come (MIGRATIONS in its image): what the cluster tests roll out under load."""
