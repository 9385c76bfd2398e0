"""The table of briefings, in the service's own schema and migration history, apart from the library's.

A briefing's status follows its job (`briefings.status`); nothing else writes it after the row is made.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, Text, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from carafe.jobs.identifiers import uuid7


class Status(StrEnum):
    """Where a briefing stands, in the words of its readers."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Base(DeclarativeBase):
    """The service's tables."""


class Briefing(Base):
    """One briefing: what it is about, and its content once the job has it. Ids are UUIDv7: in order of creation."""

    __tablename__ = "briefings"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'processing', 'completed', 'failed')", name="briefings_status"),
        CheckConstraint("(status = 'completed') = (content is not null)", name="briefings_content"),
        Index(
            "briefings_request_key",
            "requested_by",
            "request_key",
            unique=True,
            postgresql_where=text("request_key is not null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    topic: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, default=Status.PENDING, server_default=Status.PENDING.value)
    content: Mapped[str | None] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    job_id: Mapped[UUID | None]
    """The job that writes it; only that job's changes of state move the status."""
    requested_by: Mapped[str] = mapped_column(Text, default="", server_default="")
    """The name of the API token it was asked for with; empty for an open API."""
    request_key: Mapped[str | None] = mapped_column(Text)
    """The request's Idempotency-Key: one briefing a caller and key, for as long as the row stands."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
