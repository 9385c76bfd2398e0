"""The migrations of the library's own tables, in the Postgres schema ``carafe``. Their history is separate from that of the
application's migrations."""
