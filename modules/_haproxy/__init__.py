"""What modules know of HAProxy; see the files of this package."""
