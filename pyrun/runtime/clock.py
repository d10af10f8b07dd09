"""Times as the verbs use them; they are those of the records."""

from pyrun.state.clock import now, parse_rfc3339, rfc3339

__all__ = ["now", "parse_rfc3339", "rfc3339"]
