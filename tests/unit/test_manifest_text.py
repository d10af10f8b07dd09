"""The text itself: YAML as Kubernetes reads it, JSON, several documents, and what is wrong with a text."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyrun.errors import ManifestError
from pyrun.manifest import load_pods, to_json, to_yaml
from pyrun.manifest.documents import MAX_SIZE, read_documents
from pyrun.manifest.scalars import Value, resolve_plain
from pyrun.manifest.yamltext import MAX_DEPTH, read_yaml

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  containers:
  - name: c
    image: busybox
"""
FLOW = "{apiVersion: v1, kind: Pod, metadata: {name: web}, spec: {containers: [{name: c, image: busybox}]}}"


def problems(text: str) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load_pods(text, "file.yaml")
    assert caught.value.exit_code == 2
    return [str(problem) for problem in caught.value.problems]


def only(text: str) -> Value:
    reading = read_documents(text)
    assert reading.problems == ()
    (document,) = reading.documents
    return document


@pytest.fixture(params=["C parser", "Python parser"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either of PyYAML's parsers; pyrun uses the C one where it was built."""
    if request.param == "Python parser":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("this PyYAML was built without libyaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, True) for word in ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y")),
        *((word, False) for word in ("false", "False", "FALSE", "no", "No", "NO", "off", "n", "N")),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        ("tRue", "tRue"),
        ("0", 0),
        ("-12", -12),
        ("+12", 12),
        ("0x1F", 31),
        ("0b101", 5),
        ("0644", 420),
        ("0o644", 420),
        ("1_000", 1000),
        ("08", 8.0),
        ("18446744073709551615", 2**64 - 1),
        ("18446744073709551616", 2.0**64),
        ("9" * 400, "9" * 400),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1e400", "1e400"),
        ("1:30", "1:30"),
        ("22:30:15", "22:30:15"),
        ("2001-12-14", "2001-12-14"),
        ("2001-12-14T21:59:43.10-05:00", "2001-12-14T21:59:43.10-05:00"),
        ("-", "-"),
        ("1.2.3", "1.2.3"),
        ("64Mi", "64Mi"),
        ("٣", "٣"),
    ],
)
def test_plain_scalars_are_those_of_kubernetes(text: str, value: Value) -> None:
    found = resolve_plain(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 'yes'", {"a": "yes"}),
        ('a: "12"', {"a": "12"}),
        ("a: !!str 12", {"a": "12"}),
        ("a: ! 12", {"a": "12"}),
        ("a: !!int '12'", {"a": 12}),
        ("a: !!float 1", {"a": 1}),
        ("a: 2001-12-14", {"a": "2001-12-14"}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("a: >-\n  one\n  two\n", {"a": "one two"}),
        ("# comment\na: 1 # more", {"a": 1}),
        ("{a: [1, {b: c}], d: }", {"a": [1, {"b": "c"}], "d": None}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
        ("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3", {"a": {"k": 1, "l": 2}, "b": {"l": 3, "k": 1}}),
        ("a: {<<: [{k: 1}, {k: 2, l: 3}]}", {"a": {"k": 1, "l": 3}}),
        ("'<<': 1", {"<<": 1}),
        ("1: a\n0x10: b", {"1": "a", "16": "b"}),
        ("\ufeffa: 1", {"a": 1}),
        ("%YAML 1.1\n---\na: 1\n...\n", {"a": 1}),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
    ],
)
def test_yaml_forms(text: str, value: Value) -> None:
    assert only(text) == value


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", 'line 3, column 1: key "a" is given twice in one mapping, first in line 1'),
        ("1: a\n'1': b", 'line 2, column 1: key "1" is given twice in one mapping, first in line 1'),
        ("{a: 1, a: 2", "line 1, column"),
        ("a:\n\tb: 1", "it is a tab, and YAML is indented with spaces"),
        ("a: b: c", "line 1, column 5"),
        ("a: 'x", "line 1, column"),
        ("yes: a", "line 1, column 1: a mapping key must be a string, got boolean true; quote it"),
        ("~: a", "got null; quote it"),
        ("? [a]\n: b", "line 1, column 3: a mapping key must be a string, got a list"),
        ("{{ .Values.x }}: 1", "a mapping key must be a string, got a mapping"),
        ("a: !!python/object:os.system x", 'the tag "python/object:os.system" is not used by Kubernetes'),
        ("a: !mine [x]", 'the tag "!mine" is not used by Kubernetes'),
        ("a: !!set {x}", "is not used by Kubernetes"),
        ("a: !!int x", '"x" is no int'),
        ("a: *x", "the alias *x has no anchor before it"),
        ("a: &x [*x]", "the alias *x stands inside its own anchor"),
        ("a: {<<: 1}", "<< wants a mapping or a list of mappings, got number 1"),
        ("a: x\x07", "line 1, column 5: YAML does not allow the character U+0007"),
        ("é: 1\nb: é\x00", "line 2, column 5: YAML does not allow the character U+0000"),
        ("[" * (MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * 5000, "deep"),
        ("@", "line 1, column 1: found character"),
        ('a: "\\ud800"', "line 1, column"),
    ],
)
def test_wrong_text_is_told_with_its_place(text: str, problem: str) -> None:
    found = read_yaml(text).problems
    assert any(problem in str(one) for one in found), found
    assert all(str(one).startswith("line ") for one in found)


@pytest.mark.usefixtures("parser")
def test_alias_bombs_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 20)]
    start = time.monotonic()
    (problem,) = read_yaml("\n".join(lines)).problems
    assert "once aliases are expanded" in problem.message
    assert time.monotonic() - start < 2
    long = "a: &a " + "x" * 100_000 + "\nb: [" + ",".join(["*a"] * 1000) + "]"
    assert "once aliases are expanded" in str(read_yaml(long).problems)
    lists = "\n---\n".join(["a: &a [" + "x," * 1000 + "]\nb: [" + "*a," * 500 + "]"] * 3)
    assert "once aliases are expanded" in str(read_yaml(lists).problems)


def test_a_text_has_a_largest_size() -> None:
    padding = "#" * (MAX_SIZE - len(FLOW) - 1)
    assert load_pods(f"{FLOW}\n{padding}", "x")
    assert "larger than" in problems(f"{FLOW}\n{padding}#")[0]
    assert "larger than" in problems("é" * (MAX_SIZE // 2 + 1))[0]


def test_text_that_is_not_unicode() -> None:
    assert "not valid Unicode" in problems("a: \ud800")[0]


@pytest.mark.parametrize(
    "text",
    [
        POD.format(name="web"),
        FLOW,
        to_json(only(FLOW)),
        to_yaml(only(FLOW)),
        f"---\n# nothing\n---\n{FLOW}\n---\n...\n---\n",
        to_yaml({"apiVersion": "v1", "kind": "List", "items": [only(FLOW)], "metadata": {"x": 1}}),
        to_yaml({"apiVersion": "v1", "kind": "PodList", "items": [only(FLOW)]}),
    ],
)
def test_one_pod_in_every_form(text: str) -> None:
    (pod,) = load_pods(text, "x")
    assert (pod.metadata.name, pod.spec.containers[0].image) == ("web", "busybox")


def test_json_text() -> None:
    assert only('{"a": "\\ud83d\\ude00", "b": 1.0, "c": 1e3, "d": [null, true]}') == {
        "a": "😀",
        "b": 1.0,
        "c": 1000.0,
        "d": [None, True],
    }
    assert read_documents('{"a": 1}\n {"b": 2}').documents == ({"a": 1}, {"b": 2})
    assert 'key "a" is given twice' in str(read_documents('{"a": 1,\n "a": 2}').problems)
    assert "line 1" in str(read_documents('{"a": "\\ud800"}').problems)
    assert "line 2" in str(read_documents('{"a":\n ]').problems)
    assert "nested deeper" in str(read_documents('{"a":' * 5000).problems)
    many = "{}" * (MAX_SIZE // 2)
    start = time.monotonic()
    assert len(read_documents(many).documents) == MAX_SIZE // 2
    assert time.monotonic() - start < 20


def test_several_documents_keep_their_order() -> None:
    text = "\n---\n".join(POD.format(name=name) for name in ("a", "b", "c"))
    assert [pod.metadata.name for pod in load_pods(text, "x")] == ["a", "b", "c"]


def test_problems_of_all_documents_are_told_with_their_title() -> None:
    bad = POD.format(name="web").replace("image:", "imagee:")
    found = problems(f"{bad}\n---\n---\n{bad.replace('web', 'db')}\n---\nkind: Pdo\n---\n- x\n---\na: [\n")
    assert 'document 1 (Pod web): spec.containers[0].imagee: unknown field, did you mean "image"?' in found
    assert 'document 2 (Pod db): spec.containers[0].imagee: unknown field, did you mean "image"?' in found
    assert 'document 3 (Pdo): kind: unknown kind "Pdo", did you mean "Pod"?' in found
    assert "document 4: expected a mapping, got a list" in found
    assert any(line.startswith("line ") for line in found)


def test_problems_in_a_list_have_its_index() -> None:
    pod = only(FLOW)
    text = to_yaml({"apiVersion": "v1", "kind": "List", "items": [pod, {"kind": "Pod"}, 7]})
    assert problems(text) == [
        "items[1].apiVersion: required",
        "items[1].metadata: required",
        "items[1].spec: required",
        "items[2]: expected a mapping, got number 7",
    ]
    assert problems("{apiVersion: v1, kind: List, items: []}") == ["items: required, at least one object"]
    assert problems("{apiVersion: v1, kind: List, items: x}") == ["items: expected a list, got a string"]
    assert problems("{apiVersion: v2, kind: List, itms: []}")[0] == (
        'itms: unknown field, did you mean "items"?'
    )
    nested: Value = pod
    for _ in range(11):
        nested = {"apiVersion": "v1", "kind": "List", "items": [nested]}
    assert "nested deeper" in problems(to_json(nested))[0]


def test_a_pod_given_twice() -> None:
    same = f"{FLOW}\n---\n{FLOW}"
    assert problems(same) == [
        'document 2 (Pod web): metadata.name: the Pod "default/web" is given twice in this file'
    ]
    assert load_pods(same.replace("{name: web}", "{name: web, namespace: b}", 1), "x")


@pytest.mark.parametrize("text", ["", "---", "# only a comment", "---\n---\n", " \n"])
def test_a_text_without_objects(text: str) -> None:
    assert problems(text) == ["no Kubernetes object in it"]


def test_the_error_names_the_source_and_counts() -> None:
    with pytest.raises(ManifestError, match=r"^web\.yaml: 1 problem\n  kind: required$"):
        load_pods("a: 1", "web.yaml")


def test_importing_the_room_does_not_import_yaml() -> None:
    code = "import sys, pyrun.manifest; assert 'yaml' not in sys.modules; assert 'json' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


TRICKY = "yes no on off y n 1e3 0x1 010 1_0 1:30 ~ null << = 2001-01-01 .5 .inf - # a:b | > ! & * % @"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["", " ", "a\n b\n", " x", "\n", *TRICKY.split()]
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1))
def test_what_is_written_is_read_back(value: dict[str, Value]) -> None:
    assert only(to_yaml(value)) == value
    assert only(to_json(value)) == value


@given(st.text(max_size=200))
def test_any_text_is_read_or_has_problems(text: str) -> None:
    for prefix in ("", "{", "a:\n"):
        try:
            load_pods(prefix + text, "x")
        except ManifestError as error:
            assert error.problems


def test_a_value_given_twice_is_written_twice() -> None:
    shared: Value = [1, 2]
    assert to_yaml({"a": shared, "b": shared}) == "a:\n- 1\n- 2\nb:\n- 1\n- 2\n"
