"""Rights of a container's process: capabilities, no_new_privs, users and groups, limits."""
