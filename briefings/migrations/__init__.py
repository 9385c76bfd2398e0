"""The service's tables: their migration history, apart from the library's. MIGRATIONS names this package."""
