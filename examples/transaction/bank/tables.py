"""The table of accounts."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class of the tables."""


class Account(Base):
    """An account and its balance."""

    __tablename__ = "accounts"

    name: Mapped[str] = mapped_column(primary_key=True)
    cents: Mapped[int] = mapped_column(default=0)
