"""The shop's own table."""

from uuid import UUID

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class of the shop's tables."""


class Order(Base):
    """An order, the job that confirms it, and whether it was confirmed."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
    job_id: Mapped[UUID | None]
    confirmed: Mapped[bool] = mapped_column(default=False)
