"""The map of a Pod as text, as a Graphviz graph and as a picture; pure functions of a PodMap."""
