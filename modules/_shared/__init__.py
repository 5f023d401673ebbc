"""What several modules know, whatever they speak with; see the files of this package."""
