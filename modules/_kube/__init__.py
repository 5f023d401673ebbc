"""What modules know of Kubernetes; see the files of this package."""
