"""The library's own tables: their migration history, apart from the application's, in the Postgres schema ``carafe``."""
