"""Label selectors as one line of text, as they are given on a command line: `app=web,tier in (a,b),!canary`.

Source: Kubernetes concepts "Labels and Selectors"; k8s.io/apimachinery/pkg/labels.
"""

from __future__ import annotations

import re

from pyrun.errors import InputError
from pyrun.manifest.names import label_key, label_value
from pyrun.spec.selector import Operator, Requirement, Selector

_PART = re.compile(
    r"""\s*(?:
      (?P<absent>!)\s*(?P<none>[^\s,()=!]+)
    | (?P<key>[^\s,()=!]+)\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)
    | (?P<left>[^\s,()=!]+)\s*(?P<sign>==|=|!=)\s*(?P<right>[^\s,()=!]*)
    | (?P<present>[^\s,()=!]+)
    )\s*(?:,|$)""",
    re.VERBOSE,
)
_HINT = "write app=web, app!=web, 'app in (web,api)', 'app notin (web)', app or '!app', joined by commas"


def parse_selector(text: str) -> Selector:
    """Return the selector of a text; an empty one matches everything. Raises InputError."""
    labels: dict[str, str] = {}
    requirements: list[Requirement] = []
    position = 0
    while position < len(text.rstrip()):
        match = _PART.match(text, position)
        if match is None or (match.end() == len(text) and text.rstrip().endswith(",")):
            raise InputError(f'"{text}" is not a label selector', hint=_HINT)
        position = match.end()
        requirement = _checked(_requirement(match), text)
        if match["sign"] in ("=", "==") and labels.get(requirement.key, match["right"]) == match["right"]:
            labels[requirement.key] = match["right"]
        else:
            requirements.append(requirement)
    return Selector(match_labels=labels, match_expressions=tuple(requirements))


def _requirement(match: re.Match[str]) -> Requirement:
    if match["absent"]:
        return Requirement(key=match["none"], operator=Operator.DOES_NOT_EXIST)
    if match["word"]:
        values = tuple(value.strip() for value in match["values"].split(","))
        operator = Operator.IN if match["word"] == "in" else Operator.NOT_IN
        return Requirement(key=match["key"], operator=operator, values=values)
    if match["sign"]:
        operator = Operator.NOT_IN if match["sign"] == "!=" else Operator.IN
        return Requirement(key=match["left"], operator=operator, values=(match["right"],))
    return Requirement(key=match["present"], operator=Operator.EXISTS)


def _checked(requirement: Requirement, text: str) -> Requirement:
    wrong = label_key(requirement.key) or next(filter(None, map(label_value, requirement.values)), None)
    if wrong:
        raise InputError(f'in the label selector "{text}": {wrong}')
    return requirement


def format_selector(selector: Selector) -> str:
    """Return a selector as text that `parse_selector` reads."""
    parts = [f"{key}={value}" for key, value in selector.match_labels.items()]
    for requirement in selector.match_expressions:
        key, values = requirement.key, ",".join(requirement.values)
        match requirement.operator:
            case Operator.IN:
                parts.append(f"{key} in ({values})")
            case Operator.NOT_IN:
                parts.append(f"{key} notin ({values})")
            case Operator.EXISTS:
                parts.append(key)
            case Operator.DOES_NOT_EXIST:
                parts.append(f"!{key}")
    return ",".join(parts)
