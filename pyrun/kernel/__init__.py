"""The kernel as pyrun speaks to it: system calls under their own names, /proc readers, operations."""
