"""What modules know of what several modules say and read alike; see the files of this package."""
