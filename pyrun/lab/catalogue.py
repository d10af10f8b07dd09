"""All exercises, in their order."""

from __future__ import annotations

from pyrun.lab.exercise import Exercise
from pyrun.lab.exercises.e01_namespaces import OwnNamespaces
from pyrun.lab.exercises.e02_root import OwnRoot
from pyrun.lab.exercises.e03_by_hand import TwoByHand
from pyrun.lab.exercises.e04_pause import WhatPauseHolds

EXERCISES: tuple[Exercise, ...] = (OwnNamespaces(), OwnRoot(), TwoByHand(), WhatPauseHolds())
