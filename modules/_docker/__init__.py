"""What modules know of the Docker Engine; see the files of this package."""
