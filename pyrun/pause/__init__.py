"""The infra process of a Pod: found, started, and waited for until it holds the sandbox's namespaces."""
