# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Whatever is wrong with a request, the playbook says so in one sentence that names it, and leaves no helper pod."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from livekit import SLEEPER, SOURCE, TARGET, Playbook, helper_pods, in_pod, kubectl

# The first test waits for the playbooks of many others.
pytestmark = pytest.mark.timeout(600)

TOKEN = "a-token-that-nobody-may-see"
PODS = {
    "source_namespace": SOURCE,
    "source_pod": SLEEPER,
    "source_path": "/mnt/pvc-0/sentences",
    "target_namespace": TARGET,
    "target_pod": SLEEPER,
    "target_path": "/mnt/pvc-0/sentences",
}
CLAIMS = {
    "source_namespace": SOURCE,
    "source_pvc": "pvc-0",
    "source_path": "sentences",
    "target_namespace": TARGET,
    "target_pvc": "pvc-0",
    "target_path": "sentences",
}


@pytest.fixture(scope="module", autouse=True)
def folders(cluster) -> None:
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, 'mkdir -p "$1" && echo ten >"$1/10"', PODS["source_path"])
    yield
    for namespace in (SOURCE, TARGET):
        in_pod(namespace, 'rm -rf "$1"', PODS["source_path"])


@pytest.fixture(scope="module")
def server() -> dict:
    """The cluster part of the administrator's kubeconfig."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    return config["clusters"][0]["cluster"]


@pytest.fixture(scope="module")
def nobody() -> str:
    """A token of an account without any rights."""
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "nobody", "namespace": SOURCE},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(account))
    yield kubectl("create", "token", "nobody", "-n", SOURCE, "--duration=10m").strip()
    kubectl("delete", "serviceaccount", "nobody", "-n", SOURCE)


@pytest.fixture
def kubeconfig(server, tmp_path):
    """Writes a kubeconfig that has a token in it, and gives its path."""

    def write(token=TOKEN, **changes) -> str:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {**server, **changes}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        return str(path)

    return write


def refusal(ended, *secrets: str) -> str:
    """What a playbook has failed with: told once, without a secret, and with no pod left."""
    assert ended.status == 2, ended.output
    assert len(ended.failures) == 1, ended.failures
    assert "Traceback" not in ended.output
    for secret in (TOKEN, *secrets):
        assert secret not in ended.output
    assert helper_pods() == []
    return ended.failures[0]


def sentence(ended, *secrets: str) -> str:
    """The same, and it is one sentence that says what to do."""
    found = refusal(ended, *secrets)
    assert re.fullmatch(r"[^\n]+\.", found), found
    plain = re.sub(r" \(the server says: .*?\)(?=[.;:])", "", found)
    assert not re.search(r"[.!?] [A-Z]", plain), f"more than one sentence: {found}"
    assert re.search(r"[:;] ", plain), f"nothing to do about it: {found}"
    return found


BETWEEN_PODS = [
    ({"source_namespace": "no-such-namespace"}, "no-such-namespace"),
    ({"target_namespace": "no-such-namespace"}, "no-such-namespace"),
    ({"source_pod": "no-such-pod"}, f"{SOURCE}/no-such-pod"),
    ({"target_pod": "no-such-pod"}, f"{TARGET}/no-such-pod"),
    ({"source_container": "no-such-container"}, "no-such-container"),
    ({"source_path": "/mnt/no-such-path"}, "/mnt/no-such-path"),
    ({"target_path": "/mnt/no-such-path"}, "/mnt/no-such-path"),
    ({"source_path": "mnt/pvc-0"}, "mnt/pvc-0"),
    ({"files": ["10", "no-such-file"]}, "no-such-file"),
    ({"files": ["../../etc/passwd"]}, "../../etc/passwd"),
    ({"transport": "rsync"}, "rsync"),
    ({"source_kubeconfig": "/no/such/file"}, "kubeconfig file in /no/such:"),
    ({"target_context": "no-such-context"}, "no-such-context"),
    ({"source_host": "https://127.0.0.1:1", "source_api_key": TOKEN}, "127.0.0.1:1"),
    ({"source_host": "https://no-such-host.invalid", "source_api_key": TOKEN}, "no-such-host.invalid"),
    ({"source_host": "https://127.0.0.1:1"}, "https://127.0.0.1:1"),
]
CHOICES = [
    ("copy", "checksum", "sha256, sha512, sha1, md5"),
    ("copy", "transport", "auto, tar, rsync"),
    ("verify", "checksum", "sha256, sha512, sha1, md5"),
]
BETWEEN_CLAIMS = [
    ({"source_pvc": "no-such-claim"}, f"{SOURCE}/no-such-claim"),
    ({"target_pvc": "no-such-claim"}, f"{TARGET}/no-such-claim"),
    ({"target_namespace": "no-such-namespace"}, "no-such-namespace"),
    ({"source_path": "no-such-path"}, "/mnt/pvc-0/no-such-path"),
    ({"files": ["no-such-file"]}, "no-such-file"),
    ({"source_kubeconfig": "/no/such/file"}, "kubeconfig file in /no/such:"),
    ({"target_host": "https://127.0.0.1:1", "target_api_key": TOKEN}, "127.0.0.1:1"),
]
AT_ONCE = 3
"""So many playbooks run beside each other: each spends half its time waiting."""


@pytest.fixture(scope="module")
def ended(folders, tmp_path_factory):
    """Gives how a playbook has ended that needs nothing but variables: all of these have been run by then."""
    requests = [
        *(("copy", {**PODS, **changes}) for changes, _names in BETWEEN_PODS),
        *((playbook, {**PODS, option: "no-such"}) for playbook, option, _choices in CHOICES),
        *(("copy", {**CLAIMS, **changes}) for changes, _names in BETWEEN_CLAIMS),
    ]

    def play(request):
        name, variables = request
        playbook = Playbook(tmp_path_factory.mktemp("sentences"), variables, name, ["-vvv"])
        try:
            return playbook.wait()
        finally:
            playbook.kill_everything()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        endings = dict(zip(map(json.dumps, requests), pool.map(play, requests), strict=True))
    return lambda name, variables: endings[json.dumps((name, variables))]


def named(value):
    return "-".join(value) if isinstance(value, dict) else value


@pytest.mark.parametrize(("changes", "names"), BETWEEN_PODS, ids=named)
def test_between_pods(changes, names, ended):
    assert names in sentence(ended("copy", {**PODS, **changes}))


@pytest.mark.parametrize(("playbook", "option", "choices"), CHOICES)
def test_values_that_are_not_among_the_choices(playbook, option, choices, ended):
    """Ansible itself says so, in its own words."""
    found = refusal(ended(playbook, {**PODS, option: "no-such"}))
    assert re.search(rf"value of (copy_)?{option} must be one of: {choices}, got: no-such$", found)


@pytest.mark.parametrize(("changes", "names"), BETWEEN_CLAIMS, ids=named)
def test_between_claims(changes, names, ended):
    assert names in sentence(ended("copy", {**CLAIMS, **changes}))


@pytest.mark.parametrize("playbook", ["copy", "verify"])
@pytest.mark.parametrize("places", [PODS, CLAIMS], ids=["pods", "claims"])
def test_a_user_without_rights(playbook, places, played, kubeconfig, nobody):
    variables = {**places, "source_kubeconfig": kubeconfig(nobody)}
    found = sentence(played(variables, playbook, ["-vvv"]), nobody)
    assert "forbidden" in found
    assert "persistentvolumeclaims" in found or "pods/exec" in found
    assert SOURCE in found


@pytest.mark.parametrize("places", [PODS, CLAIMS], ids=["pods", "claims"])
def test_a_token_that_does_not_count(places, played, kubeconfig):
    found = sentence(played({**places, "target_kubeconfig": kubeconfig()}, options=["-vvv"]))
    assert "credentials" in found
    assert "token" in found


def test_a_token_given_as_a_variable(played, server, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_bytes(base64.b64decode(server["certificate-authority-data"]))
    given = {"source_host": server["server"], "source_ca_cert": str(authority), "source_api_key": TOKEN}
    assert "credentials" in sentence(played({**CLAIMS, **given}, options=["-vvv"]))


def test_an_authority_that_did_not_sign(played, kubeconfig, tmp_path):
    made = tmp_path / "other.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -keyout /dev/null".split()
    subprocess.run(["openssl", *request, "-out", made], check=True, capture_output=True, timeout=20)
    path = kubeconfig(**{"certificate-authority-data": base64.b64encode(made.read_bytes()).decode()})
    assert "ca_cert" in sentence(played({**PODS, "source_kubeconfig": path}, options=["-vvv"]))


@pytest.mark.parametrize(
    "text",
    [
        f"users: [{{name: u, user: {{token: {TOKEN}}}",
        f"just some text, and {TOKEN}",
        f"apiVersion: v1\nkind: Config\nusers: [{{name: u, user: {{token: {TOKEN}}}}}]\n",
        "",
    ],
    ids=["no-YAML", "no-mapping", "no-clusters", "empty"],
)
def test_a_broken_kubeconfig(text, played, tmp_path):
    path = tmp_path / "broken"
    path.write_text(text)
    assert f"kubeconfig broken in {tmp_path} " in sentence(
        played({**CLAIMS, "source_kubeconfig": str(path)}, options=["-vvv"])
    )


def test_a_broken_kubeconfig_of_the_environment(played, tmp_path):
    path = tmp_path / "broken"
    path.write_text(f"users: [{TOKEN}")
    environment = {"KUBECONFIG": "", "K8S_AUTH_KUBECONFIG": str(path)}
    assert f"kubeconfig broken in {tmp_path} " in sentence(
        played(PODS, options=["-vvv"], environment=environment)
    )


def test_a_verification_of_what_is_not_there(played):
    variables = {**PODS, "files": ["no-such-file"]}
    assert "no-such-file" in sentence(played(variables, "verify", ["-vvv"]))


def test_a_difference_is_named(played):
    in_pod(TARGET, 'echo eleven >"$1/10"', PODS["target_path"])
    found = sentence(played(PODS, "verify", ["-vvv"]))
    assert found.startswith(f"/mnt/pvc-0/sentences in pod {TARGET}/{SLEEPER} doesn't match")
    assert "10" in found


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_report_that_would_replace_something_else(kind, played, tmp_path):
    report = tmp_path / "precious"
    kept = report / "kept" if kind == "folder" else report
    kept.parent.mkdir(exist_ok=True)
    kept.write_text('{"of": "somebody else"}\n')
    assert str(report) in sentence(played({**PODS, "report": str(report)}))
    assert kept.read_text() == '{"of": "somebody else"}\n'


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"source_pvc": "pvc-0"}, "source names a pod and a claim"),
        (
            {"target_pod": None, "target_path": None, "target_namespace": None},
            "destination doesn't say where",
        ),
        (
            {"source_pod": "", "source_pvc": "pvc-0", "source_path": "../x"},
            "source has a path that may lead out",
        ),
        ({"staging": "//"}, "staging directory"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
def test_endpoints_that_do_not_add_up(changes, names, played):
    assert names in sentence(played({**PODS, **changes}))


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [("delete", "perhaps", "bool"), ("max_retries", "many", "int")],
)
def test_values_of_another_type(option, value, kind, played):
    """They are refused by Ansible, not taken for something else."""
    said = refusal(played({**PODS, option: value}))
    assert re.search(rf"'copy_{option.removeprefix('max_')}' .* convert to {kind}", said)


@pytest.mark.parametrize("option", ["max_retries", "wait_timeout", "lifetime"])
def test_numbers_below_zero(option, played):
    assert f"{option.removeprefix('max_')} -1 is below zero" in sentence(played({**CLAIMS, option: -1}))


def test_what_a_survey_leaves_empty(played, tmp_path):
    names = [
        "delete",
        "max_retries",
        "lifetime",
        "keep_staging",
        "include",
        "report",
        "source_pvc",
        "source_container",
    ]
    ended = played({**PODS, **dict.fromkeys(names, ""), "files": 10})
    assert ended.status == 0, ended.output
    assert (tmp_path / "pvc-files/mnt/pvc-0/sentences/10").read_text() == "ten\n"


def test_files_by_their_full_paths_and_switches_in_words(played, tmp_path):
    variables = {"files": f"{PODS['source_path']}/10\r\n\n", "keep_staging": "no", "delete": "yes"}
    ended = played({**PODS, **variables})
    assert ended.status == 0, ended.output
    assert not (tmp_path / "pvc-files/mnt/pvc-0/sentences").exists()
