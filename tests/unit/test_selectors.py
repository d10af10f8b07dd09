"""Label selectors as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import InputError
from pyrun.manifest.selectors import format_selector, parse_selector
from pyrun.spec.selector import Operator, Requirement, Selector

WEB = {"app": "web", "tier": "front", "empty": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        (" app = web , tier = front ", True),
        ("app=api", False),
        ("app=web,app=api", False),
        ("app=web,app=web", True),
        ("app!=api", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("app in (api,web)", True),
        ("app in (api, web),tier in(front)", True),
        ("app in (api)", False),
        ("app notin (api)", True),
        ("missing notin (x)", True),
        ("app notin (api,web)", False),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("! app", False),
        ("empty=", True),
        ("app=", False),
        ("in", False),
        ("example.com/x.y!=z,app", True),
    ],
)
def test_what_a_selector_matches(text: str, matches: bool) -> None:
    assert parse_selector(text).matches(WEB) is matches


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "app=web,",
        "=web",
        "app in web",
        "app in (web",
        "app web",
        "app=web tier=x",
        "(app)",
        "app=a=b",
        "!",
        "-x",
        "app=-x",
        "app in (-x)",
        "a/b/c=d",
        "x" * 64,
        "app>1",
    ],
)
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(InputError, match="label selector"):
        parse_selector(text)


KEYS = st.from_regex(r"[a-z]([a-z0-9.-]{0,5}[a-z0-9])?", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9]?", fullmatch=True)
REQUIREMENTS = st.one_of(
    st.builds(
        lambda key, operator, values: Requirement(key=key, operator=operator, values=tuple(values)),
        KEYS,
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.lists(VALUES, min_size=2, max_size=3),
    ),
    st.builds(
        lambda key, operator: Requirement(key=key, operator=operator),
        KEYS,
        st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]),
    ),
)
SELECTORS = st.builds(
    lambda labels, requirements: Selector(match_labels=labels, match_expressions=tuple(requirements)),
    st.dictionaries(KEYS, VALUES, max_size=3),
    st.lists(REQUIREMENTS, max_size=3),
)


@given(SELECTORS)
def test_every_selector_can_be_written_and_read(selector: Selector) -> None:
    assert parse_selector(format_selector(selector)) == selector
