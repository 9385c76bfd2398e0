"""A worker that answers at once where a job is, made of a trigger: for tests of what asks, which need no worker."""

from collections.abc import Sequence

LINE = "/srv/shop.py:7 in export"
"""Its answer."""

ANSWERS_AT_ONCE: Sequence[str] = (
    f"""
    create function answers() returns trigger language plpgsql as $$
    begin
        new.answered_at := now();
        new.lines := array['{LINE}'];
        return new;
    end $$
    """,
    "create trigger answers before insert or update on carafe.stacks for each row execute function answers()",
)
"""The statements that make it."""
