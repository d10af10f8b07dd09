"""Spec and host facts to operations, for a sandbox and for a container. Pure."""
