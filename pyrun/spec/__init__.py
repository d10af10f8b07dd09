"""Frozen values: what a manifest means once its text has been read. No I/O."""
