"""Desired state: objects in an embedded SQLite database, with one resourceVersion and a watch log."""
