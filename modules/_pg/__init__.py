"""What modules know of PostgreSQL; see the files of this package."""
