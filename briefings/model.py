"""The table of briefings. It has its own schema and migration history, separate from those of Carafe.

A briefing's status follows its job (`briefings.status`). After the row is inserted, nothing else changes the status.
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, Text, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from carafe import uuid7


class Status(StrEnum):
    """The status of a briefing, as its readers see it."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Base(DeclarativeBase):
    """The base class of the service's tables."""


class Briefing(Base):
    """One briefing: its topic, and its content once the job has written it. Ids are UUIDv7, so they sort by creation."""

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
    """The job that writes the briefing. Only this job's changes of state change the status."""
    requested_by: Mapped[str] = mapped_column(Text, default="", server_default="")
    """The name of the API token with which the briefing was requested; empty for an API without tokens."""
    request_key: Mapped[str | None] = mapped_column(Text)
    """The request's Idempotency-Key. A caller has at most one briefing for each key, as long as the row exists."""
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
