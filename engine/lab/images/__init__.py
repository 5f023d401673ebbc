"""Images: the registry, and a Docker Engine that builds and pushes."""
