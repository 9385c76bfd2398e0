"""Finds what a change of the schema would break in the release that still runs during the change.

During a rollout the old release works on the new schema, and after a rollback it does so permanently. So a revision may add
things, but must not change existing ones. The check compares the catalogs before and after, whatever the statements are.
"""

from dataclasses import dataclass

import asyncpg

COLUMNS = """
select format('%I.%I', n.nspname, c.relname), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.atthasdef or a.attidentity <> '' as has_default
from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and a.attnum > 0 and not a.attisdropped
      and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_toast%'
"""

# Rules that a write has to obey: also what ON CONFLICT rests on.
RULES = """
select format('%I.%I', n.nspname, c.relname), pg_get_constraintdef(r.oid)
from pg_constraint r join pg_class c on c.oid = r.conrelid join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and not c.relispartition and r.contype in ('c', 'f', 'p', 'u', 'x')
      and n.nspname not in ('pg_catalog', 'information_schema')
union all
select format('%I.%I', n.nspname, c.relname),
       regexp_replace(pg_get_indexdef(i.indexrelid), '^CREATE UNIQUE INDEX \\S+ ON (ONLY )?\\S+ ', 'UNIQUE INDEX ')
from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
where i.indisunique and c.relkind in ('r', 'p') and not c.relispartition
      and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg_toast%'
"""

FUNCTIONS = """
select format('%I.%I', n.nspname, p.proname), pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid)
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname not in ('pg_catalog', 'information_schema')
"""


@dataclass(frozen=True)
class Column:
    """One column, as writers and readers have to know it."""

    type: str
    required: bool
    has_default: bool


@dataclass(frozen=True)
class Schema:
    """Tables with their columns and rules, and functions."""

    tables: dict[str, dict[str, Column]]
    rules: frozenset[tuple[str, str]]
    functions: frozenset[tuple[str, str, str]]


async def schema(connection: "asyncpg.Connection[asyncpg.Record]") -> Schema:
    """The schema as it stands."""
    tables: dict[str, dict[str, Column]] = {}
    for table, name, kind, required, has_default in await connection.fetch(COLUMNS):
        tables.setdefault(table, {})[name] = Column(kind, required, has_default)
    rules = frozenset((table, rule) for table, rule in await connection.fetch(RULES))
    functions = frozenset((name, given, result) for name, given, result in await connection.fetch(FUNCTIONS))
    return Schema(tables, rules, functions)


def breaks(before: Schema, after: Schema) -> list[str]:
    """What of `before` a release that knows only it could no longer rely on, in words; empty when nothing."""
    found: list[str] = []
    for table, columns in before.tables.items():
        if table not in after.tables:
            found.append(f"{table} is gone")
            continue
        now = after.tables[table]
        for name, was in columns.items():
            column = now.get(name)
            if column is None:
                found.append(f"{table}.{name} is gone")
                continue
            if column.type != was.type:
                found.append(f"{table}.{name} was {was.type} and is {column.type}")
            if column.required and not was.required:
                found.append(f"{table}.{name} could be null and cannot any more")
            if was.has_default and not column.has_default:
                found.append(f"{table}.{name} had a default and has none any more")
        for name in now.keys() - columns.keys():
            if now[name].required and not now[name].has_default:
                found.append(f"{table}.{name} is new, cannot be null and has no default, so nobody else can insert")
    for table, rule in sorted(after.rules - before.rules):
        if table in before.tables:
            found.append(f"{table} has a new rule, which running processes may break: {rule}")
    for table, rule in sorted(before.rules - after.rules):
        if table in after.tables:
            found.append(f"{table} has lost a rule, which running processes may rest on: {rule}")
    for name, given, _ in sorted(before.functions - after.functions):
        found.append(f"function {name}({given}) is gone or returns something else")
    return found
