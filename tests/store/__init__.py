"""What a run keeps outside its process."""
