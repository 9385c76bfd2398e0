"""The dashboard's security: who may look and who may act; sessions, passwords, checks of origins, and forms."""
