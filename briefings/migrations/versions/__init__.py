"""The migrations of the service's schema, one file for each revision."""
