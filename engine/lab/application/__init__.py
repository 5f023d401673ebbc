"""The application: what runs in the pods, serves users and keeps their sessions."""
