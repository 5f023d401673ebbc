"""What modules know of traffic; see the files of this package."""
