"""The request and response bodies of the briefings API."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from briefings.model import Status


class BriefingRequest(BaseModel):
    """A briefing to write."""

    model_config = ConfigDict(extra="forbid")

    topic: Annotated[
        str,
        # No control characters: neither line breaks nor what Postgres cannot store.
        StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"),
    ] = Field(description="What the briefing is about, in one line.", examples=["Coffee prices this morning"])


class BriefingAccepted(BaseModel):
    """A briefing that will be written; it is committed together with its job."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    status: Status
    job_id: UUID | None


class BriefingModel(BriefingAccepted):
    """The current state of a briefing."""

    topic: str
    content: str | None = Field(description="The briefing's text; null until the briefing is completed.")
    error: str | None = Field(description="Why the briefing failed; null if it did not.")
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


class BriefingPage(BaseModel):
    """A page of briefings, newest first."""

    model_config = ConfigDict(from_attributes=True)

    briefings: list[BriefingModel]
    next_cursor: UUID | None = Field(description="The cursor of the next page; null on the last page.")


class BriefingFilter(BaseModel):
    """Which briefings to list."""

    model_config = ConfigDict(extra="forbid")

    cursor: UUID | None = Field(None, description="`next_cursor` of the previous page.")
    limit: int = Field(50, ge=1, le=500)
