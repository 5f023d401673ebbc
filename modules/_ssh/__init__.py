"""What modules know of SSH; see the files of this package."""
