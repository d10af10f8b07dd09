"""The verbs, in the words of CRI: run a sandbox, create, start, stop and remove containers, exec, logs, status."""
