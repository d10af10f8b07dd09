"""Golden plans: a manifest and the operations it becomes, the same on every machine.

After a meant change: `PYRUN_UPDATE_GOLDEN=1 pytest tests/unit/test_plan_golden.py`, and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from pyrun.cli.plan import plan_text
from pyrun.manifest import load_pods
from pyrun.runtime.create import PodPlan
from pyrun.runtime.plan import plan_pods
from pyrun.spec.layout import Layout
from pyrun.spec.network import NetworkConfig
from pyrun.spec.resources import Capacity
from pyrun.state.journal import AnyOperation

CAPACITY = Capacity(cpu_millis=4000, memory=16 << 30)
GOLDEN = Path(__file__).parent / "golden"
MANIFESTS = sorted(path.stem for path in GOLDEN.glob("*.yaml"))


def plans(text: str) -> tuple[PodPlan, ...]:
    layout = Layout()
    return plan_pods(load_pods(text, "test"), layout, NetworkConfig.of(layout.name, layout.state), CAPACITY)


def test_there_are_golden_plans() -> None:
    assert {"one", "shared", "host", "several"} <= set(MANIFESTS)


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_plan_is_the_golden_one(name: str) -> None:
    text = "\n\n".join(plan_text(plan) for plan in plans((GOLDEN / f"{name}.yaml").read_text())) + "\n"
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("PYRUN_UPDATE_GOLDEN") == "1":
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", MANIFESTS)
def test_operations_come_back_from_json_as_they_were(name: str) -> None:
    for plan in plans((GOLDEN / f"{name}.yaml").read_text()):
        operations = plan.all_operations()
        encoded = msgspec.json.encode(operations)
        assert msgspec.json.decode(encoded, type=tuple[AnyOperation, ...]) == operations


def test_planning_twice_gives_the_same() -> None:
    text = (GOLDEN / "several.yaml").read_text()
    assert [p.all_operations() for p in plans(text)] == [p.all_operations() for p in plans(text)]
