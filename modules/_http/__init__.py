"""What modules know of HTTP; see the files of this package."""
