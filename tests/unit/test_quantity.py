"""Quantities, against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.spec.quantity import MAX, format_bytes, parse_bytes, parse_milli_cpu, parse_quantity

SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    **{suffix: Fraction(1000) ** (i + 1) for i, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": Fraction(1024) ** (i + 1) for i, suffix in enumerate("KMGTPE")},
    "e3": Fraction(1000),
    "E-2": Fraction(1, 100),
    "e+6": Fraction(10**6),
}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("12", 12),
        ("+12", 12),
        ("-3", -3),
        ("64Mi", 64 * 2**20),
        ("1.5Gi", 3 * 2**29),
        ("1e3", 1000),
        ("1E3", 1000),
        ("1E", 10**18),
        ("100m", 1),
        ("-100m", -1),
        (".5k", 500),
        ("5.", 5),
        ("1n", 1),
        ("0.0000000001", 1),
        ("9223372036854775807", MAX),
    ],
)
def test_bytes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "milli"),
    [("250m", 250), ("0.25", 250), ("1", 1000), ("1000u", 1), ("2.0010", 2001), ("1k", 10**6)],
)
def test_milli_cpu(text: str, milli: int) -> None:
    assert parse_milli_cpu(text) == milli


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not a quantity"),
        ("Mi", "is not a quantity"),
        (".", "is not a quantity"),
        ("1 Mi", "is not a quantity"),
        ("--1", "is not a quantity"),
        ("1e", 'unknown suffix "e"'),
        ("1.5.1", "is not a quantity"),
        ("\u0661", "is not a quantity"),
        ("0x10", 'unknown suffix "x'),
        ("1" * 65, "is not a quantity"),
        ("64MB", "did you mean M?"),
        ("64mib", "did you mean Mi?"),
        ("64K", "did you mean k?"),
        ("64foo", 'unknown suffix "foo"'),
        ("1e400", "exponent beyond"),
        ("1e-400", "exponent beyond"),
        ("9223372036854775808", "largest quantity"),
        ("8Ei", "largest quantity"),
        ("1\n", "is not a quantity"),
    ],
)
def test_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"quantity|suffix|exponent") as caught:
        parse_bytes(text)
    if text != "0x10":
        assert sentence in str(caught.value)
    assert str(caught.value).isprintable()


@given(
    whole=st.integers(0, 10**12),
    fraction=st.text("0123456789", max_size=12),
    sign=st.sampled_from(["", "+", "-"]),
    suffix=st.sampled_from(sorted(SUFFIXES)),
    parts=st.sampled_from([1, 1000]),
)
def test_rounds_up_exactly(whole: int, fraction: str, sign: str, suffix: str, parts: int) -> None:
    exact = (Fraction(whole) + Fraction(int(fraction or "0"), 10 ** len(fraction))) * SUFFIXES[suffix]
    text = f"{sign}{whole}{'.' if fraction else ''}{fraction}{suffix}"
    if ceil(exact) > MAX:
        with pytest.raises(ValueError, match="largest"):
            parse_quantity(text)
        return
    expected = ceil(exact * parts) * (-1 if sign == "-" else 1)
    assert parse_quantity(text).rounded_up(parts) == expected


@given(st.integers(0, MAX))
def test_format_and_back(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == count


def test_format_takes_the_largest_exact_suffix() -> None:
    assert [format_bytes(n) for n in (0, 1000, 1024, 64 * 2**20, 3 * 2**29)] == [
        "0",
        "1000",
        "1Ki",
        "64Mi",
        "1536Mi",
    ]


@given(st.text(max_size=80))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        parse_quantity(text)
    except ValueError as error:
        assert str(error)
