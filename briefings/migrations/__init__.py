"""The migrations of the service's own tables, kept apart from Carafe's. The setting MIGRATIONS names this package."""
