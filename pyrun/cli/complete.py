"""What a shell completes on the command line: names of Pods. Works without root, and never fails."""

from __future__ import annotations

import click

from pyrun.spec.layout import DEFAULT_ROOT, DEFAULT_STATE, Layout


def complete_pods(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of Pods that begin with `incomplete`."""
    from pyrun.state.files import list_directory

    options = context.find_root().params
    layout = Layout.of(options.get("root") or DEFAULT_ROOT, options.get("state") or DEFAULT_STATE)
    try:
        spaces = list_directory(f"{layout.state}/names")
        names = {name for space in spaces for name in list_directory(layout.names(space)) if "~" not in name}
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))
