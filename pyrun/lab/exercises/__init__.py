"""The exercises, a module each: what the host must have, what the scene is, what must be so in the end."""
