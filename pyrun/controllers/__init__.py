"""Control loops: they compare what is desired with what is observed, and call the verbs that the CLI calls."""
