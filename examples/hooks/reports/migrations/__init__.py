"""The migrations of the tables of reports; `carafe migrate --new` writes more."""

from reports.tables import Base

target_metadata = Base.metadata
