"""The table of payments."""

from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class of the tables."""


class Payment(Base):
    """A payment. Its id belongs to the idempotency key of the request that made it."""

    __tablename__ = "payments"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    cents: Mapped[int]
    charged: Mapped[bool] = mapped_column(default=False)
