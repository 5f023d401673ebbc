"""The objects: their types, where they are kept, how they are changed and when they are refused."""
