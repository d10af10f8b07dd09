"""The one table of namespaces, and the steps that join and leave them."""
