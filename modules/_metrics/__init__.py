"""What modules know of sources of metrics; see the files of this package."""
