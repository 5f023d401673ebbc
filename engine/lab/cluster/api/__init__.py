"""The API server: from bytes on a connection to objects in the store, and back."""
