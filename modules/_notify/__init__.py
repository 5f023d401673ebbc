"""What modules know of notices; see the files of this package."""
