"""Where records live: atomic writes, locks, the journal, and the transaction that drives it."""
