"""Where the command starts."""

from __future__ import annotations

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line.

    The cyclic garbage collector is off: a command lives for a fraction of a second, a fifth of which the
    collector would spend on the modules it imports. What stays (a supervisor) switches it on.
    """
    gc.disable()
    from pyrun.cli.main import main as run

    run()
