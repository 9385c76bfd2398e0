"""The migrations of the tables of payments; `carafe migrate --new` writes more."""

from payments.tables import Base

target_metadata = Base.metadata
