"""Annotations that set what Kubernetes has no field for in cgroups: parsing, and their validation at the door."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import ManifestError
from pyrun.manifest import load_pods, to_json
from pyrun.manifest.scalars import Value
from pyrun.spec.cgroup import LinuxResources
from pyrun.spec.hugepages import format_page_size, kernel_page_size, parse_page_size
from pyrun.spec.pod import Pod
from pyrun.spec.settings import SETTINGS, SettingKey, annotation, parse_setting, setting_key, settings_of

MI, GI = 2**20, 2**30
LIMITS: Value = {"limits": {"cpu": 1, "memory": "64Mi", "hugepages-2Mi": "2Mi"}}


def pod(annotations: dict[str, str], resources: Value = None) -> Pod:
    text = to_json(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "annotations": dict(annotations)},
            "spec": {
                "initContainers": [{"name": "init", "image": "x", "resources": resources}],
                "containers": [{"name": "nginx", "image": "x", "resources": resources}],
            },
        }
    )
    return load_pods(text, "test")[0]


@pytest.mark.parametrize(
    ("setting", "text", "expected"),
    [
        ("pids-limit", "1", LinuxResources(pids_max=1)),
        ("pids-limit", "4194304", LinuxResources(pids_max=2**22)),
        ("cpuset-cpus", "0-2,4", LinuxResources(cpuset_cpus="0-2,4")),
        ("cpuset-cpus", "3-3", LinuxResources(cpuset_cpus="3-3")),
        ("cpuset-mems", "0", LinuxResources(cpuset_mems="0")),
        ("io-weight", "1", LinuxResources(io_weight=1)),
        ("io-weight", "10000", LinuxResources(io_weight=10000)),
        ("io-max", "8:0 rbps=1048576", LinuxResources(io_max=("8:0 rbps=1048576",))),
        (
            "io-max",
            "8:0  rbps=1 wiops=120 ; 259:1 riops=9 wbps=2",
            LinuxResources(io_max=("8:0 rbps=1 wiops=120", "259:1 riops=9 wbps=2")),
        ),
        ("memory-high", "64Mi", LinuxResources(memory_high=64 * MI)),
        ("memory-min", "1k", LinuxResources(memory_min=1000)),
        ("memory-min", "0", LinuxResources(memory_min=0)),
        ("swap-max", "0", LinuxResources(swap_max=0)),
        ("swap-max", "1.5Gi", LinuxResources(swap_max=3 * 2**29)),
        ("single-process-oom-kill", "true", LinuxResources(oom_group=False)),
        ("single-process-oom-kill", "false", LinuxResources(oom_group=True)),
        ("hugetlb-2Mi", "4Mi", LinuxResources(hugetlb=(("2MB", 4 * MI),))),
        ("hugetlb-1Gi", "0", LinuxResources(hugetlb=(("1GB", 0),))),
        ("hugetlb-64Ki", "1Mi", LinuxResources(hugetlb=(("64KB", MI),))),
    ],
)
def test_settings(setting: str, text: str, expected: LinuxResources) -> None:
    assert parse_setting(setting, text) == expected
    assert settings_of({annotation(setting): text}) == expected
    assert settings_of({annotation(setting, "nginx"): text}, "nginx") == expected
    assert settings_of({annotation(setting, "nginx"): text}) == LinuxResources()
    assert settings_of({annotation(setting): text}, "nginx") == LinuxResources()
    assert pod({annotation(setting): text, annotation(setting, "nginx"): text})


RANGE = "is not a list of numbers and ranges such as 0-2,4"


@pytest.mark.parametrize(
    ("setting", "text", "message"),
    [
        ("pids-limit", "0", '"0" is not a number between 1 and 4194304'),
        ("pids-limit", "-1", '"-1" is not a number between 1 and 4194304'),
        ("pids-limit", "max", '"max" is not a number between 1 and 4194304'),
        ("pids-limit", "1.0", '"1.0" is not a number'),
        ("pids-limit", "4194305", "is not a number between"),
        ("pids-limit", "٣", "is not a number between"),
        ("pids-limit", "9" * 100, "is not a number between"),
        ("cpuset-cpus", "", RANGE),
        ("cpuset-cpus", "0-", RANGE),
        ("cpuset-cpus", "0,,1", RANGE),
        ("cpuset-cpus", "0-1,", RANGE),
        ("cpuset-cpus", " 0", RANGE),
        ("cpuset-cpus", "0-3:1/2", RANGE),
        ("cpuset-cpus", "all", RANGE),
        ("cpuset-cpus", "4-2", '"4-2" has the range 4-2, which ends before it begins'),
        ("cpuset-cpus", "8192", "has the number 8192, the highest there can be is 8191"),
        ("cpuset-mems", "1024", "the highest there can be is 1023"),
        ("io-weight", "0", "is not a number between 1 and 10000"),
        ("io-weight", "10001", "is not a number between 1 and 10000"),
        ("io-max", "", 'is no limit of a disk such as "8:0 rbps=1048576 wiops=120"'),
        ("io-max", "8:0", '"8:0" is no limit of a disk'),
        ("io-max", "sda rbps=1", '"sda rbps=1" is no limit of a disk'),
        ("io-max", "8:0 rbps=1;", '"" is no limit of a disk'),
        ("io-max", "8:0 rbp=1", '"rbp=1" limits none of rbps, wbps, riops, wiops'),
        ("io-max", "8:0 rbps", '"rbps" has no number from 1 on'),
        ("io-max", "8:0 rbps=0", '"rbps=0" has no number from 1 on'),
        ("io-max", "8:0 rbps=1k", '"rbps=1k" has no number from 1 on'),
        ("io-max", "8:0 rbps=9223372036854775808", "has no number from 1 on"),
        ("io-max", "8:0 rbps=1 rbps=2", "rbps of device 8:0 is given twice"),
        ("io-max", "8:0 rbps=1;8:0 wbps=2", "device 8:0 is given twice; its limits go into one line"),
        ("memory-high", "0", "must not be zero"),
        ("memory-high", "-1Mi", 'must not be negative, got "-1Mi"'),
        ("memory-high", "64MiB", 'has the unknown suffix "MiB", did you mean Mi?'),
        ("memory-high", "100m", 'is no whole number of bytes, did you mean "100M"?'),
        ("memory-min", "1e400", "has an exponent beyond 40"),
        ("swap-max", "max", "is not a quantity"),
        ("single-process-oom-kill", "yes", "'yes' is neither true nor false"),
        ("single-process-oom-kill", "", "'' is neither true nor false"),
        ("hugetlb-2Mi", "3Mi", '"3Mi" is no multiple of the size of a page, 2Mi'),
        ("hugetlb-2Mi", "-2Mi", "must not be negative"),
        ("hugetlb-3Mi", "3Mi", '"3Mi" is no size of huge pages such as 2Mi or 1Gi'),
        ("hugetlb-2MB", "2Mi", 'has the unknown suffix "MB"'),
        ("hugetlb-2048Ki", "2Mi", 'spell it "hugetlb-2Mi"'),
        ("hugetlb-", "2Mi", "is not a quantity"),
    ],
)
def test_bad_settings(setting: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_setting(setting, text)
    for key in (annotation(setting), annotation(setting, "nginx")):
        if key.partition("/")[0].endswith("-.pyrun.io") or key.endswith("-"):
            continue  # not the key of an annotation at all
        with pytest.raises(ManifestError) as refused:
            pod({key: text})
        (problem,) = refused.value.problems
        assert problem.path == f"metadata.annotations[{key}]"
        assert message in problem.message


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("pyrun.io/pid-limit", 'unknown annotation of pyrun, did you mean "pyrun.io/pids-limit"?'),
        ("pyrun.io/cpuset-cpu", 'unknown annotation of pyrun, did you mean "pyrun.io/cpuset-cpus"?'),
        ("io-wieght.pyrun.io/nginx", 'unknown annotation of pyrun, did you mean "io-weight.pyrun.io/nginx"?'),
        (
            "Pids-limit.pyrun.io/nginx",
            'unknown annotation of pyrun, did you mean "pids-limit.pyrun.io/nginx"?',
        ),
        (
            "pids-limit.Pyrun.io/nginx",
            'unknown annotation of pyrun, did you mean "pids-limit.pyrun.io/nginx"?',
        ),
        ("pyrun.io/rootfs", "unknown annotation of pyrun"),
        ("pids-limit.pyrun.io/ngin", 'no container is named "ngin", did you mean "nginx"?'),
        ("hugetlb-2Mi.pyrun.io/other", 'no container is named "other"'),
    ],
)
def test_unknown_annotations_and_containers(key: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        pod({key: "1"})
    (problem,) = caught.value.problems
    assert problem.path == f"metadata.annotations[{key}]"
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("memory-high.pyrun.io/nginx", "65Mi", "65Mi is above the limit of memory, 64Mi"),
        ("memory-min.pyrun.io/init", "1Gi", "1Gi is above the limit of memory, 64Mi"),
        ("pyrun.io/memory-min", "65Mi", "65Mi is above the limit of memory, 64Mi"),
        ("hugetlb-2Mi.pyrun.io/nginx", "2Mi", "a limit of huge pages of this size is given too"),
        ("pyrun.io/hugetlb-2Mi", "2Mi", "a limit of huge pages of this size is given too"),
    ],
)
def test_settings_do_not_contradict_the_limits(key: str, value: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        pod({key: value}, LIMITS)
    assert [str(problem) for problem in caught.value.problems] == [f"metadata.annotations[{key}]: {message}"]
    assert pod({key: value})


def test_settings_beside_limits() -> None:
    assert pod({"memory-high.pyrun.io/nginx": "64Mi", "hugetlb-1Gi.pyrun.io/nginx": "1Gi"}, LIMITS)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("pyrun.io/pids-limit", SettingKey("pids-limit", "")),
        ("pids-limit.pyrun.io/nginx", SettingKey("pids-limit", "nginx")),
        ("a.b.pyrun.io/nginx", SettingKey("a.b", "nginx")),
        ("pids-limit/nginx", None),
        ("pids-limit.example.com/nginx", None),
        ("pids-limit.Pyrun.io/nginx", None),
        ("pids-limit", None),
    ],
)
def test_keys(key: str, expected: SettingKey | None) -> None:
    assert setting_key(key) == expected


@given(st.sampled_from([*SETTINGS, "hugetlb-2Mi"]), st.text(max_size=30))
def test_any_text_is_a_setting_or_a_value_error(setting: str, text: str) -> None:
    try:
        assert parse_setting(setting, text) != LinuxResources()
    except ValueError as error:
        assert str(error).isprintable()


@given(st.integers(14, 34).map(lambda twos: 2**twos))
def test_page_sizes(size: int) -> None:
    assert parse_page_size(format_page_size(size)) == size
    number, unit = kernel_page_size(size)[:-2], kernel_page_size(size)[-2:]
    assert int(number) << {"KB": 10, "MB": 20, "GB": 30}[unit] == size


@pytest.mark.parametrize("text", ["0", "-2Mi", "3Mi", "4Ki", "32Gi", "2.5Mi", "2", "", "2MB"])
def test_what_is_no_page_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"no size of huge pages|is not a quantity|suffix"):
        parse_page_size(text)
