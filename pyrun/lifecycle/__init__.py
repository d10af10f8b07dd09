"""The rules of a Pod's life, as pure functions: what is observed and what time it is -> what to do and why.

Nothing here reads a clock, a file or the kernel; times are nanoseconds of CLOCK_MONOTONIC, which no change of
the date moves. Sources: Kubernetes concepts "Pod Lifecycle", "Sidecar Containers", "Configure Probes".
"""
