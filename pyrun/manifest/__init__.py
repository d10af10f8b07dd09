"""Kubernetes text -> spec: read YAML or JSON, convert by the table of fields, validate; and back again.

`load_objects` is the door for every manifest, `load_pods` the one for Pods alone, `read_object` the one for values
of the store; `dump_object`, `dump_pod` and `dump_replica_set` are the way back. No mapping of the text travels further
than this room. PyYAML is imported by the first call that needs it, not by importing this package.
"""

from __future__ import annotations

from pyrun.manifest.dump import dump_object, dump_pod, dump_replica_set, to_json, to_yaml
from pyrun.manifest.load import KubernetesObject, load_objects, load_pods, read_object

__all__ = [
    "KubernetesObject",
    "dump_object",
    "dump_pod",
    "dump_replica_set",
    "load_objects",
    "load_pods",
    "read_object",
    "to_json",
    "to_yaml",
]
