"""All exercises, in their order."""

from __future__ import annotations

from pyrun.lab.exercise import Exercise
from pyrun.lab.exercises.e01_namespaces import OwnNamespaces
from pyrun.lab.exercises.e02_root import OwnRoot
from pyrun.lab.exercises.e03_by_hand import TwoByHand
from pyrun.lab.exercises.e04_pause import WhatPauseHolds
from pyrun.lab.exercises.e05_one_process import OneProcess
from pyrun.lab.exercises.e06_volume import SharedVolume
from pyrun.lab.exercises.e07_signal import SignalAcross
from pyrun.lab.exercises.e08_zombies import Zombies
from pyrun.lab.exercises.e09_memory import Memory
from pyrun.lab.exercises.e10_noise import Noise
from pyrun.lab.exercises.e11_time import BootedYesterday
from pyrun.lab.exercises.e12_replicaset import DesiredState
from pyrun.lab.exercises.e13_atomic import Atomic

EXERCISES: tuple[Exercise, ...] = (
    OwnNamespaces(),
    OwnRoot(),
    TwoByHand(),
    WhatPauseHolds(),
    OneProcess(),
    SharedVolume(),
    SignalAcross(),
    Zombies(),
    Memory(),
    Noise(),
    BootedYesterday(),
    DesiredState(),
    Atomic(),
)
