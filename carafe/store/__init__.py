"""The store in Postgres, which holds the truth about jobs. This folder has the connections, and the SQL statements that
change or list jobs."""
