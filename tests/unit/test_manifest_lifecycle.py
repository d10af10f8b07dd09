"""What makes a Pod live, read from its manifest: probes, hooks, init containers, restart rules, field references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import ManifestError
from pyrun.manifest.scalars import Value
from pyrun.spec.downward import FIELD_PATHS
from pyrun.spec.pod import RestartPolicy, RestartRule, RestartRuleAction, is_sidecar
from pyrun.spec.probe import (
    ExecAction,
    GrpcAction,
    HttpGetAction,
    HttpHeader,
    Probe,
    SleepAction,
    TcpSocketAction,
)
from tests.unit.manifest_kit import HANDLERS, HOOKS, PROBES, first, load, problems, put, small

C = "spec.containers[0]"
EXEC: dict[str, Value] = {"exec": {"command": ["true"]}}
SHARED_HANDLERS = "exec, httpGet"
OF_PROBES = f"{SHARED_HANDLERS}, tcpSocket, grpc"


def probe_of(value: Value, field: str = "livenessProbe") -> Probe:
    container = first(load(put(small(), f"{C}.{field}", value)))
    probe = {
        "startupProbe": container.startup_probe,
        "readinessProbe": container.readiness_probe,
        "livenessProbe": container.liveness_probe,
    }[field]
    assert probe is not None
    return probe


@pytest.mark.parametrize("field", PROBES)
def test_the_defaults_of_a_probe_are_kubernetes(field: str) -> None:
    probe = probe_of(EXEC, field)
    assert probe == Probe(action=ExecAction(command=("true",)))
    assert (probe.initial_delay_seconds, probe.period_seconds, probe.timeout_seconds) == (0, 10, 1)
    assert (probe.success_threshold, probe.failure_threshold) == (1, 3)


TIMES = ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "successThreshold", "failureThreshold")


@pytest.mark.parametrize("field", PROBES)
def test_zero_is_the_default_as_in_kubernetes(field: str) -> None:
    assert probe_of({**EXEC, **dict.fromkeys(TIMES, 0)}, field) == probe_of(EXEC, field)


@pytest.mark.parametrize("field", PROBES)
@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [-1, 2**31])
def test_times_and_thresholds_of_a_probe_have_a_range(field: str, name: str, value: int) -> None:
    expected = f"{C}.{field}.{name}: must be between 0 and 2147483647, got {value}"
    assert problems(put(small(), f"{C}.{field}", {**EXEC, name: value})) == [expected]


@pytest.mark.parametrize(
    ("handler", "action"),
    [
        ({"exec": {"command": ["sh", "-c", "$(A)"]}}, ExecAction(command=("sh", "-c", "$(A)"))),
        ({"httpGet": {"port": 80}}, HttpGetAction(port=80, path="/", host="", scheme="HTTP")),
        ({"httpGet": {"port": 80, "path": "x?y=/ä", "scheme": "HTTPS"}},
         HttpGetAction(port=80, path="x?y=/ä", scheme="HTTPS")),
        ({"httpGet": {"port": "web", "host": "localhost"}}, HttpGetAction(port="web", host="localhost")),
        ({"httpGet": {"port": 1, "host": "::1", "httpHeaders": [{"name": "A", "value": "b c"}, {"name": "A"}]}},
         HttpGetAction(port=1, host="::1", headers=(HttpHeader(name="A", value="b c"), HttpHeader(name="A")))),
        ({"tcpSocket": {"port": "web", "host": "10.0.0.1"}}, TcpSocketAction(port="web", host="10.0.0.1")),
        ({"tcpSocket": {"port": 65535.0}}, TcpSocketAction(port=65535)),
        ({"grpc": {"port": 50051}}, GrpcAction(port=50051, service="")),
        ({"grpc": {"port": 50051, "service": "a.B"}}, GrpcAction(port=50051, service="a.B")),
    ],
)  # fmt: skip
def test_handlers(handler: Value, action: object) -> None:
    pod = put(small(), f"{C}.ports", [{"containerPort": 8080, "name": "web"}])
    container = first(load(put(pod, f"{C}.readinessProbe", handler)))
    assert container.readiness_probe is not None
    assert container.readiness_probe.action == action


BAD_HANDLERS: list[tuple[dict[str, Value], str, str]] = [
    ({"exec": {}}, "exec.command", "required, at least one word"),
    ({"exec": {"command": []}}, "exec.command", "required, at least one word"),
    ({"exec": {"command": "true"}}, "exec.command", "expected a list, got a string"),
    ({"exec": []}, "exec", "expected a mapping, got a list"),
    ({"httpGet": {}}, "httpGet.port", "required"),
    ({"httpGet": {"port": 0}}, "httpGet.port", "must be between 1 and 65535, got 0"),
    ({"httpGet": {"port": 65536}}, "httpGet.port", "must be between 1 and 65535, got 65536"),
    ({"httpGet": {"port": ""}}, "httpGet.port", "required"),
    ({"httpGet": {"port": "80"}}, "httpGet.port", "a number or the name of a port; remove the quotes"),
    ({"httpGet": {"port": "Web"}}, "httpGet.port", 'no port named "Web", did you mean "web"?'),
    ({"httpGet": {"port": "wbe"}}, "httpGet.port", 'no port named "wbe", did you mean "web"?'),
    ({"httpGet": {"port": True}}, "httpGet.port", "expected an integer, got boolean true"),
    ({"httpGet": {"port": 80, "scheme": "https"}}, "httpGet.scheme", 'did you mean "HTTPS"?'),
    ({"httpGet": {"port": 80, "path": "/a b"}}, "httpGet.path", "must not contain white space"),
    ({"httpGet": {"port": 80, "path": "/\r\nX: y"}}, "httpGet.path", "control characters"),
    ({"httpGet": {"port": 80, "host": "example.com"}}, "httpGet.host", "pyrun does not resolve names"),
    ({"httpGet": {"port": 80, "host": "10.0.0.256"}}, "httpGet.host", "is not an IP address"),
    ({"httpGet": {"port": 80, "host": "fe80::1%eth0"}}, "httpGet.host", "is not an IP address"),
    ({"httpGet": {"port": 80, "httpHeaders": [{}]}}, "httpGet.httpHeaders[0].name", "required"),
    ({"httpGet": {"port": 80, "httpHeaders": [{"name": "A:"}]}}, "httpGet.httpHeaders[0].name",
     "is not the name of an HTTP header"),
    ({"httpGet": {"port": 80, "httpHeaders": [{"name": "A", "value": "b\r\nC: d"}]}},
     "httpGet.httpHeaders[0].value", "must not contain control characters"),
]  # fmt: skip
BAD_PROBE_HANDLERS: list[tuple[dict[str, Value], str, str]] = [
    ({"tcpSocket": {}}, "tcpSocket.port", "required"),
    ({"tcpSocket": {"port": "other"}}, "tcpSocket.port", 'no port named "other"'),
    ({"tcpSocket": {"port": 1, "host": "db"}}, "tcpSocket.host", "pyrun does not resolve names"),
    ({"grpc": {}}, "grpc.port", "required"),
    ({"grpc": {"port": "web"}}, "grpc.port", "expected an integer, got a string"),
    ({"grpc": {"port": 0}}, "grpc.port", "must be between 1 and 65535"),
]
BAD_HOOK_HANDLERS: list[tuple[dict[str, Value], str, str]] = [
    ({"sleep": {}}, "sleep.seconds", "required"),
    ({"sleep": {"seconds": -1}}, "sleep.seconds", "must be between 0 and"),
    (
        {"sleep": {"seconds": 31}},
        "sleep.seconds",
        "must be at most terminationGracePeriodSeconds, 30, got 31",
    ),
    ({"tcpSocket": {"port": 80}}, "tcpSocket", "not supported by pyrun: deprecated by Kubernetes"),
]


def one_problem(field: str, value: Value, place: str, message: str) -> None:
    pod = put(small(), f"{C}.ports", [{"containerPort": 8080, "name": "web"}])
    (found,) = problems(put(pod, f"{C}.{field}", value))
    assert found.startswith(f"{C}.{field}.{place}: ")
    assert message in found


@pytest.mark.parametrize("field", PROBES)
@pytest.mark.parametrize(("value", "place", "message"), BAD_HANDLERS + BAD_PROBE_HANDLERS)
def test_bad_handlers_of_probes(field: str, value: Value, place: str, message: str) -> None:
    one_problem(field, value, place, message)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(("value", "place", "message"), BAD_HANDLERS + BAD_HOOK_HANDLERS)
def test_bad_handlers_of_hooks(hook: str, value: Value, place: str, message: str) -> None:
    one_problem(f"lifecycle.{hook}", value, place, message)


@pytest.mark.parametrize("field", PROBES)
def test_a_probe_has_exactly_one_handler(field: str) -> None:
    place = f"{C}.{field}"
    for nothing in ({}, {"exec": None}, {"periodSeconds": 1}):
        assert problems(put(small(), place, nothing)) == [
            f"{place}: a handler is required, one of {OF_PROBES}"
        ]
    names = ("exec", "httpGet", "tcpSocket", "grpc")
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert problems(put(small(), place, {name: HANDLERS[name] for name in (other, one)})) == [
                f"{place}.{other}: a probe has only one handler, and {one} is given too"
            ]
    every: Value = {name: HANDLERS[name] for name in names}
    assert len(problems(put(small(), place, every))) == 3


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_exactly_one_handler(hook: str) -> None:
    place = f"{C}.lifecycle.{hook}"
    assert problems(put(small(), place, {})) == [
        f"{place}: a handler is required, one of {SHARED_HANDLERS}, sleep"
    ]
    assert problems(put(small(), place, {**EXEC, "sleep": HANDLERS["sleep"]})) == [
        f"{place}.sleep: a hook has only one handler, and exec is given too"
    ]


@pytest.mark.parametrize("field", ["livenessProbe", "startupProbe"])
def test_one_success_is_enough_for_liveness_and_startup(field: str) -> None:
    expected = f"{C}.{field}.successThreshold: must be 1 for a {field}, got 2"
    assert problems(put(small(), f"{C}.{field}", {**EXEC, "successThreshold": 2})) == [expected]
    assert probe_of({**EXEC, "successThreshold": 2}, "readinessProbe").success_threshold == 2


def test_the_grace_period_of_a_probe() -> None:
    for field in ("livenessProbe", "startupProbe"):
        assert (
            probe_of({**EXEC, "terminationGracePeriodSeconds": 1}, field).termination_grace_period_seconds
            == 1
        )
        (found,) = problems(put(small(), f"{C}.{field}", {**EXEC, "terminationGracePeriodSeconds": 0}))
        assert found.startswith(f"{C}.{field}.terminationGracePeriodSeconds: must be between 1 and")
    assert problems(put(small(), f"{C}.readinessProbe", {**EXEC, "terminationGracePeriodSeconds": 1})) == [
        f"{C}.readinessProbe.terminationGracePeriodSeconds: not allowed in a readinessProbe, which kills nothing"
    ]


def test_a_port_is_one_of_its_own_container() -> None:
    pod = put(small("initContainers[0]"), "spec.initContainers[0].ports[0].name", "web")
    probe: Value = {"tcpSocket": {"port": "web"}}
    assert load(put(pod, "spec.initContainers[0].readinessProbe", probe))
    assert problems(put(pod, f"{C}.readinessProbe", probe)) == [
        f'{C}.readinessProbe.tcpSocket.port: the container has no port named "web"'
    ]


def test_hooks() -> None:
    pod = put(small(), f"{C}.lifecycle.preStop", {"sleep": {"seconds": 30}})
    pod = put(pod, f"{C}.lifecycle.postStart", {"httpGet": {"port": 80}})
    hooks = first(load(pod)).lifecycle
    assert (hooks.post_start, hooks.pre_stop) == (HttpGetAction(port=80), SleepAction(seconds=30))
    pod = put(pod, "spec.terminationGracePeriodSeconds", 29)
    assert problems(pod) == [
        f"{C}.lifecycle.preStop.sleep.seconds: must be at most terminationGracePeriodSeconds, 29, got 30"
    ]
    assert load(put(small(), f"{C}.lifecycle.preStop", {"sleep": {"seconds": 0}}))


def test_sidecars_and_init_containers() -> None:
    pod = put(small(), "spec.initContainers", [
        {"name": "side", "image": "x", "restartPolicy": "Always", "livenessProbe": EXEC},
        {"name": "first", "image": "x", "restartPolicy": "OnFailure"},
        {"name": "second", "image": "x"},
    ])  # fmt: skip
    spec = load(pod).spec
    assert [c.name for c in spec.all_containers()] == ["side", "first", "second", "c"]
    assert [is_sidecar(spec, c) for c in spec.all_containers()] == [True, False, False, False]
    assert [c.restart_policy for c in spec.init_containers] == [
        RestartPolicy.ALWAYS,
        RestartPolicy.ON_FAILURE,
        None,
    ]


@pytest.mark.parametrize("field", [*PROBES, "lifecycle"])
@pytest.mark.parametrize("policy", [None, "Never", "OnFailure"])
def test_only_sidecars_are_probed_and_have_hooks(field: str, policy: str | None) -> None:
    given: dict[str, Value] = {"lifecycle": {"preStop": EXEC}, **dict.fromkeys(PROBES, EXEC)}
    init: dict[str, Value] = {"name": "i", "image": "x", "restartPolicy": policy, field: given[field]}
    assert problems(put(small(), "spec.initContainers", [init])) == [
        f"spec.initContainers[0].{field}: "
        "not allowed in an init container, unless it is a sidecar (restartPolicy: Always)"
    ]
    assert load(put(small(), "spec.initContainers", [{**init, "restartPolicy": "Always"}]))
    # A misspelt policy is told, and nothing that follows from it.
    (found,) = problems(put(small(), "spec.initContainers", [{**init, "restartPolicy": "always"}]))
    assert found.startswith("spec.initContainers[0].restartPolicy: ")


def test_names_are_unique_over_all_containers() -> None:
    assert problems(put(small(), "spec.initContainers", [{"name": "c", "image": "x"}])) == [
        f'{C}.name: "c" is given twice, first at spec.initContainers[0].name'
    ]


def test_init_containers_are_checked_like_all_others() -> None:
    init: Value = {
        "name": "i",
        "image": "x",
        "volumeMounts": [{"name": "w", "mountPath": "/w"}],
        "ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}],
    }
    found = problems(put(small(), "spec.initContainers", [init]))
    assert [line.partition(": ")[0] for line in found] == [
        "spec.initContainers[0].ports[1].name",
        "spec.initContainers[0].volumeMounts[0].name",
    ]


RULE: dict[str, Value] = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}


def test_restart_rules() -> None:
    rules: Value = [
        RULE,
        {"action": "RestartAllContainers", "exitCodes": {"operator": "NotIn", "values": [0, 255]}},
        {"action": "Restart", "exitCodes": {"operator": "NotIn"}},
    ]
    pod = put(put(small(), f"{C}.restartPolicy", "Never"), f"{C}.restartPolicyRules", rules)
    assert first(load(pod)).restart_policy is RestartPolicy.NEVER
    assert first(load(pod)).restart_policy_rules == (
        RestartRule(action=RestartRuleAction.RESTART, exit_codes=(42,)),
        RestartRule(action=RestartRuleAction.RESTART_ALL_CONTAINERS, exit_codes=(0, 255), negated=True),
        RestartRule(action=RestartRuleAction.RESTART, exit_codes=(), negated=True),
    )


R = f"{C}.restartPolicyRules"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([{"exitCodes": RULE["exitCodes"]}], [f"{R}[0].action: required"]),
        ([{**RULE, "action": "Reboot"}], [f'{R}[0].action: unknown value "Reboot"']),
        ([{"action": "Restart"}], [f"{R}[0].exitCodes: required"]),
        ([{"action": "Restart", "exitCodes": {"values": [1]}}], [f"{R}[0].exitCodes.operator: required"]),
        ([{"action": "Restart", "exitCodes": {"operator": "in"}}], [f"{R}[0].exitCodes.operator: unknown"]),
        (
            [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1, 256, "2", -1]}}],
            [
                f"{R}[0].exitCodes.values[1]: must be between 0 and 255, got 256",
                f"{R}[0].exitCodes.values[2]: expected an integer, got a string; remove the quotes",
                f"{R}[0].exitCodes.values[3]: must be between 0 and 255, got -1",
            ],
        ),
        (
            [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1] * 256}}],
            [f"{R}[0].exitCodes.values: at most 255 exit codes, got 256"],
        ),
        ([RULE] * 21, [f"{R}: at most 20 rules, got 21"]),
    ],
)
def test_bad_restart_rules(rules: Value, expected: list[str]) -> None:
    found = problems(put(put(small(), f"{C}.restartPolicy", "Always"), R, rules))
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


def test_restart_rules_need_a_policy_of_the_container() -> None:
    assert problems(put(small(), R, [RULE])) == [f"{C}.restartPolicy: required beside restartPolicyRules"]
    limits = put(put(small(), f"{C}.restartPolicy", "OnFailure"), R, [RULE] * 20)
    assert len(first(load(limits)).restart_policy_rules) == 20


def field_ref(path: str) -> dict[str, Value]:
    return {"fieldRef": {"fieldPath": path}}


@pytest.mark.parametrize(
    "path",
    [
        *FIELD_PATHS,
        "metadata.labels['a']",
        "metadata.labels['app.kubernetes.io/name']",
        "metadata.annotations['Example.com/Note']",
    ],
)
def test_field_references(path: str) -> None:
    (variable,) = first(load(put(small(), f"{C}.env[0].valueFrom", field_ref(path)))).env
    assert (variable.name, variable.value, variable.field_path) == ("A", "", path)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "required"),
        ("metadata.nam", 'did you mean "metadata.name"?'),
        ("metadata.labels", "is not a field that a container can be told"),
        ("metadata.annotations", "is not a field that a container can be told"),
        ("spec.containers", "known are metadata.name,"),
        ("status.podIp", 'did you mean "status.podIP"?'),
        ("metadata.name['a']", "is not a field that a container can be told"),
        ("metadata.labels['']", "is not a field that a container can be told"),
        ("metadata.labels[a]", "is not a field that a container can be told"),
        ("metadata.labels['a b']", "is not a key"),
        ("metadata.annotations['/a']", "the part before the slash"),
    ],
)
def test_bad_field_references(path: str, message: str) -> None:
    (found,) = problems(put(small(), f"{C}.env[0].valueFrom", field_ref(path)))
    assert found.startswith(f"{C}.env[0].valueFrom.fieldRef.fieldPath: ")
    assert message in found


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ({"valueFrom": {}}, f"{C}.env[0].valueFrom: a source is required: fieldRef or resourceFieldRef"),
        (
            {"value": "1", "valueFrom": field_ref("metadata.name")},
            f"{C}.env[0].valueFrom: not allowed beside value",
        ),
        (
            {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v2"}}},
            f'{C}.env[0].valueFrom.fieldRef.apiVersion: expected "v1", got "v2"',
        ),
        (
            {"valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
            f"{C}.env[0].valueFrom.secretKeyRef: known to Kubernetes, not supported by pyrun yet",
        ),
    ],
)
def test_bad_sources_of_variables(variable: dict[str, Value], expected: str) -> None:
    assert problems(put(small(), f"{C}.env", [{"name": "A", **variable}])) == [expected]
    empty_value = {"name": "A", "value": "", "valueFrom": field_ref("metadata.name")}
    assert load(put(small(), f"{C}.env", [empty_value]))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.activeDeadlineSeconds", 0, "must be between 1 and 2147483647, got 0"),
        ("spec.activeDeadlineSeconds", 2**31, "must be between 1 and 2147483647, got 2147483648"),
        ("spec.os", {"name": "windows"}, 'pyrun runs Linux containers, not those of "windows"'),
        ("spec.os", {}, "required"),
        ("spec.serviceAccountName", "A", "is not a DNS name"),
        ("spec.serviceAccount", "A", "is not a DNS name"),
        (f"{C}.terminationMessagePath", "log", "is relative; give an absolute path"),
        (f"{C}.terminationMessagePath", "/a/../b", 'must not contain ".."'),
        (f"{C}.terminationMessagePolicy", "Logs", "known are File, FallbackToLogsOnError"),
        (f"{C}.restartPolicy", "always", 'did you mean "Always"?'),
        ("metadata.finalizers", [], "not supported by pyrun yet"),
    ],
)
def test_rules_of_a_pods_life(path: str, value: Value, message: str) -> None:
    (found,) = problems(put(small(), path, value))
    assert found.startswith(path)
    assert message in found


def test_the_older_name_of_the_account() -> None:
    older = put(small(), "spec.serviceAccount", "builder")
    assert load(older).spec.service_account_name == "builder"
    assert load(put(older, "spec.serviceAccountName", "newer")).spec.service_account_name == "newer"


def test_the_default_message_path() -> None:
    for value in (None, ""):
        container = first(load(put(small(), f"{C}.terminationMessagePath", value)))
        assert container.termination_message_path == "/dev/termination-log"


def test_all_problems_of_a_pods_life_are_told_at_once() -> None:
    pod = put(small(), "spec.activeDeadlineSeconds", 0)
    pod = put(pod, f"{C}.livenessProbe", {**EXEC, "httpGet": {"port": "nope"}, "periodSeconds": -1})
    pod = put(pod, f"{C}.lifecycle", {"preStop": {"sleep": {"seconds": 99}}, "postStart": {}})
    pod = put(pod, f"{C}.restartPolicyRules", [{}])
    pod = put(pod, "spec.initContainers", [{"name": "c", "image": "x", "readinessProbe": {}}])
    assert sorted(line.partition(": ")[0] for line in problems(pod)) == sorted(
        [
            "spec.activeDeadlineSeconds",
            f"{C}.livenessProbe.httpGet",
            f"{C}.livenessProbe.periodSeconds",
            f"{C}.lifecycle.preStop.sleep.seconds",
            f"{C}.lifecycle.postStart",
            f"{C}.restartPolicy",
            f"{C}.restartPolicyRules[0].action",
            f"{C}.restartPolicyRules[0].exitCodes",
            f"{C}.name",
            "spec.initContainers[0].readinessProbe",
            "spec.initContainers[0].readinessProbe",
        ]
    )


@given(st.text(max_size=20))
def test_a_header_or_path_never_breaks_a_request(text: str) -> None:
    value: Value = {"httpGet": {"port": 80, "path": text, "httpHeaders": [{"name": "A", "value": text}]}}
    try:
        action = probe_of(value).action
    except ManifestError:
        return
    assert isinstance(action, HttpGetAction)
    request = f"{action.path} {action.headers[0].value}"
    assert not {"\r", "\n", "\0"} & set(request)
    assert not any(character.isspace() for character in action.path)
