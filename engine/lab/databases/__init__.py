"""The databases: a real PostgreSQL and a stand-in for Redis."""
