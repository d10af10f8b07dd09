"""How long a container that keeps ending waits before it is restarted.

Source: Kubernetes concepts "Pod Lifecycle", "How Pods handle problems with containers" (10 s doubling to 300 s,
reset after 10 minutes of running).
"""

from __future__ import annotations

from pyrun.spec.value import Value

_SECOND = 10**9


class BackoffSettings(Value, frozen=True, kw_only=True):
    """The delays of restarts, in nanoseconds; the defaults are Kubernetes'.

    `initial_ns` is the first delay, doubled by every further end up to `maximum_ns`; a container that has run for
    `reset_ns` begins anew. An `initial_ns` or `maximum_ns` of 0 is no delay at all.
    """

    initial_ns: int = 10 * _SECOND
    maximum_ns: int = 300 * _SECOND
    reset_ns: int = 600 * _SECOND
