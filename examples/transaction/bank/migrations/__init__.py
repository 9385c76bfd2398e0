"""The migrations of the tables of bank; `carafe migrate --new` writes more."""

from bank.tables import Base

target_metadata = Base.metadata
