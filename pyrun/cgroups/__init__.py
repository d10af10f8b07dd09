"""cgroup v2: one gate to its files, creation and removal of groups, freezing and killing."""
