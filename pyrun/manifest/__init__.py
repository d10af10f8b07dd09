"""Kubernetes text -> spec: read YAML or JSON, convert by the table of fields, validate; and back again.

`load_pods` is the door for every manifest, `dump_pod` the way back. No mapping of the text travels further
than this room. PyYAML is imported by the first call that needs it, not by importing this package.
"""

from __future__ import annotations

from pyrun.manifest.dump import dump_pod, to_json, to_yaml
from pyrun.manifest.load import load_pods

__all__ = ["dump_pod", "load_pods", "to_json", "to_yaml"]
