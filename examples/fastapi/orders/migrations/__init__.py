"""The migrations of the tables of orders; `carafe migrate --new` writes more."""

from orders.tables import Base

target_metadata = Base.metadata
