"""The table of reports."""

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base class of the tables."""


class Report(Base):
    """A report. Its status is the state of its job."""

    __tablename__ = "reports"

    id: Mapped[int] = mapped_column(primary_key=True)
    topic: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    text: Mapped[str | None]
    error: Mapped[str | None]
