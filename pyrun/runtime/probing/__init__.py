"""Probes and hooks as they are carried out: checks of a container that never block who drives them."""
