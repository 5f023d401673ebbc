"""What modules know of child processes; see the files of this package."""
