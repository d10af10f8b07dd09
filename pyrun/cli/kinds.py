"""The kinds of objects as they are typed: `pods`, `po`, `rs/web`, and the options that choose among them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from pyrun.errors import InputError
from pyrun.spec.object import ObjectKey

F = TypeVar("F", bound=Callable[..., Any])


class Kind(enum.Enum):
    """A kind of object, by the word that kubectl prints for it."""

    POD = "pod"
    REPLICA_SET = "replicaset.apps"
    EVENT = "event"

    @property
    def kubernetes(self) -> str:
        """The kind as a manifest spells it."""
        return {Kind.POD: "Pod", Kind.REPLICA_SET: "ReplicaSet", Kind.EVENT: "Event"}[self]

    @property
    def plural(self) -> str:
        """The word for several of them."""
        return f"{self.value.partition('.')[0]}s"

    def key(self, namespace: str, name: str) -> ObjectKey:
        """The key of an object of this kind in the store."""
        return ObjectKey(
            group=self.value.partition(".")[2], kind=self.kubernetes, namespace=namespace, name=name
        )


WORDS = {
    "pod": Kind.POD,
    "pods": Kind.POD,
    "po": Kind.POD,
    "replicaset": Kind.REPLICA_SET,
    "replicasets": Kind.REPLICA_SET,
    "replicaset.apps": Kind.REPLICA_SET,
    "replicasets.apps": Kind.REPLICA_SET,
    "rs": Kind.REPLICA_SET,
    "event": Kind.EVENT,
    "events": Kind.EVENT,
    "ev": Kind.EVENT,
}


EVERYTHING = (Kind.POD, Kind.REPLICA_SET)
"""What `all` means: the kinds that are applied."""


class Target(NamedTuple):
    """What is meant on a command line: objects of one kind, all of them when there are no names."""

    kind: Kind
    names: tuple[str, ...] = ()


def kind_of(word: str) -> Kind:
    """Return the kind that a word means. Raises InputError."""
    kind = WORDS.get(word.lower())
    if kind is None:
        from pyrun.manifest.nearest import did_you_mean

        hint = did_you_mean(word.lower(), WORDS)
        raise InputError(
            f'"{word}" is not a kind of object{hint}',
            hint="known are pods (po), replicasets (rs), events (ev), all",
        )
    return kind


def parse_targets(words: Sequence[str]) -> tuple[Target, ...]:
    """Return what `KIND [NAME...]`, `KIND/NAME...` or `KIND,KIND` mean. Raises InputError."""
    if not words:
        raise InputError("say what: a kind of object", hint="such as pods, replicasets or rs/web")
    if any("/" in word for word in words):
        return tuple(_one(word) for word in words)
    typed = words[0].split(",")
    kinds = tuple(kind for word in typed for kind in (EVERYTHING if word == "all" else (kind_of(word),)))
    if len(kinds) > 1 and len(words) > 1:
        raise InputError("names of several kinds are given as KIND/NAME", hint="such as pod/web rs/web")
    return tuple(Target(kind, tuple(dict.fromkeys(words[1:]))) for kind in dict.fromkeys(kinds))


def _one(word: str) -> Target:
    kind, slash, name = word.partition("/")
    if not slash or not name or "/" in name:
        raise InputError(f'"{word}" is not KIND/NAME', hint="such as pod/web or rs/web")
    return Target(kind_of(kind), (name,))


def one_target(words: Sequence[str]) -> tuple[Kind, str]:
    """Return the one object that is meant. Raises InputError."""
    targets = parse_targets(words)
    if len(targets) != 1 or len(targets[0].names) != 1:
        raise InputError("give one object", hint="such as rs web, or rs/web")
    return targets[0].kind, targets[0].names[0]


def namespace_option(command: F) -> F:
    """Give a command the option -n."""
    return click.option(
        "-n", "--namespace", default="default", show_default=True, metavar="NAME", help="Of which namespace."
    )(command)


def all_namespaces_option(command: F) -> F:
    """Give a command the option -A."""
    return click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces.")(command)


def selector_option(command: F) -> F:
    """Give a command the option -l."""
    return click.option(
        "-l",
        "--selector",
        default="",
        metavar="SELECTOR",
        help="Only those with labels such as app=web,!old.",
    )(command)
