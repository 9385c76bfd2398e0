"""The migrations of the service's own tables, kept apart from Carafe's. The setting MIGRATIONS names this package."""

from briefings.model import Base

target_metadata = Base.metadata
"""What `carafe migrate --new` compares the database with."""
