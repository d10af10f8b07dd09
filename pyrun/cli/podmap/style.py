"""The colours of the picture, for light and for dark viewers; without variables, which not every viewer knows."""

from __future__ import annotations

_LIGHT = ("#cfe3ff", "#ffe2c4", "#d4f0cf", "#f2d8f6", "#fdf0ad", "#c9eeee", "#ffd7d7", "#e1dcff")
_DARK = ("#1d4b82", "#7a4511", "#22602c", "#6b3077", "#665a0c", "#10605f", "#7c2b2b", "#47399a")

TINTS = len(_LIGHT)
"""How many colours there are for what is shared."""

_SHAPES = """
text{font-family:system-ui,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",sans-serif;font-size:13px;fill:#1f2328}
.mono,.inode{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:12px}
.inode{font-size:11.5px}.small{font-size:11.5px}.title{font-size:19px;font-weight:600}.head{font-weight:600}
.letter{font-size:16px;font-weight:700}.word{font-size:11.5px}.note{font-size:12px;fill:#57606a}.middle{text-anchor:middle}
.end{text-anchor:end}.faint{fill:#57606a}.on-host{fill:#57606a}.ground{fill:#ffffff}.rule{stroke:#d0d7de}
.branch{stroke:#8c959f;stroke-width:1.2}.own{fill:none;stroke:#8c959f;stroke-dasharray:3 2}.host{fill:#e9ebee}"""

_NIGHT = """text{fill:#e6edf3}.faint,.note,.on-host{fill:#9da7b3}.ground{fill:#0d1117}.rule{stroke:#30363d}
.branch,.own{stroke:#6e7681}.host{fill:#21262d}"""


def _tints(colours: tuple[str, ...]) -> str:
    return "".join(f".t{number}{{fill:{colour}}}" for number, colour in enumerate(colours))


STYLE = f"{_SHAPES}\n{_tints(_LIGHT)}\n@media(prefers-color-scheme:dark){{{_NIGHT}\n{_tints(_DARK)}}}\n"
"""The style sheet."""
