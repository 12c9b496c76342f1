# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

import base64
import json
import re
import shlex
import subprocess
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kubeferry.pvc.plugins.plugin_utils import _redact
from ansible_collections.kubeferry.pvc.plugins.plugin_utils._redact import (
    MASK,
    MOST_LEARNT,
    MOST_SEARCHED,
    MOST_TEMPLATES,
    Redactor,
)


@pytest.mark.parametrize(
    "key",
    "password db_password passwd PASSPHRASE pwd ansible_become_pass api_key apiKey API-KEY access_key private_key "
    "client_key client-key-data client-certificate-data certificate-authority-data token access_token bearer_token "
    "K8S_AUTH_API_KEY authorization auth secret secret_key credentials kubeconfig kube_config cookie pw db_pass2 "
    "dbPass adminPwd dbPassOld dbpass DBPW2 SSHPASS encryption_key tls_key ssh_key vpnTlsKey signing-key SESSION_KEY "
    "pre_shared_key session_id sessionId wifi_psk otp otp_pin pin_code".split(),
)
def test_telling_names(key):
    redactor = Redactor()
    assert redactor.is_secret_key(key)
    redactor.learn_arguments({"stdout": json.dumps({key: "hunter22"})})
    assert redactor.known() == ["hunter22"]


@pytest.mark.parametrize(
    "key",
    "path compass changed author name rc keyboard passed state namespace pod key keys public_key publicKey ssh_keys "
    "primary_key ssh_key_file ssh_public_key gpgkey host_key bypass PASSED Passed passes otp_version session "
    "mapping pin spawn".split(),
)
def test_harmless_names(key):
    assert not Redactor().is_secret_key(key)


def test_names_of_the_user():
    redactor = Redactor(keys=["^my_", "Special$"])
    assert redactor.is_secret_key("MY_field")
    assert redactor.is_secret_key("somethingspecial")
    redactor.learn_arguments({"stdout": '{"my_field": "hunter22"}'})
    assert redactor.known() == ["hunter22"]


@pytest.mark.parametrize(
    "text",
    [
        "postgres://user:S3CRET@host/db",
        "postgres://user:p@S3CRET@host/db",
        "https://S3CRET@host/path",
        "redis://:S3CRET@host",
        "amqp://user:S3/CRET@host",
        "Authorization: Bearer S3CRET0123456789",
        "authorization=Basic S3CRET",
        "bearer S3CRET0123456789",
        "--password S3CRET",
        "--token=S3CRET",
        "--client-secret 'S3CRET with blanks'",
        "PASSWORD=S3CRET",
        "DB_PASSWORD='S3CRET with blanks'",
        "export DB_PASS=S3CRET",
        "MYSQLDBPWD2='S3CRET with blanks'",
        "SMTP_PW=S3CRET",
        r'{"password": "with \"quotes S3CRET"}',
        'api_key: "S3CRET with blanks"',
        '{"password": "S3CRET"}',
        "?access_token=S3CRET&x=1",
        "client-key-data: S3CRET",
        "db_password == 'S3CRET'",
        'api_token != "S3CRET with blanks" and x',
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJTM0NSRVQifQ.S3CRETS3CRET",
        "-----BEGIN PRIVATE KEY-----\nS3CRET\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nS3CRET",
    ],
)
def test_what_looks_like_a_credential(text):
    cleaned = Redactor().text(f"before {text} after")
    assert "S3CRET" not in cleaned
    assert cleaned.startswith("before ")
    assert MASK in cleaned
    assert Redactor().suspects(json.dumps(text))


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8443/path?x=1",
        "mail to someone@example.org",
        "the key is under the mat",
        "passed 3 of 3",
        "pass=3 fail=0, PASS=3",
        "PWD=/root OLDPWD=/srv BUILD_PWD=/build",
        "COMPASS=north by_pass=yes",
        "db_password != '' and api_token is defined",
    ],
)
def test_what_does_not(text):
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    "value", ["hunter2", 'with "quotes" and \\', "snow ☃ man", "a=b&c d", "it's $5", "two\nlines of secret"]
)
def test_listed_values_in_all_their_forms(value):
    redactor = Redactor(values=[value])
    data = {
        "plain": f"x{value}y",
        "url": f"https://host/?q={quote(value, safe='')}",
        "base64": base64.b64encode(value.encode()).decode(),
        "json in a text": json.dumps({"inner": value}),
        "lines": value.splitlines(),
        "command": f"echo {shlex.quote(value)}",
        "deeper": {f"key {value}": [value]},
    }
    assert redactor.suspects(json.dumps(data))
    left = json.dumps(redactor.scrub(data))
    for form in (
        value,
        quote(value, safe=""),
        json.dumps(value)[1:-1],
        shlex.quote(value)[1:-1] if "'" in value else value,
        base64.b64encode(value.encode()).decode(),
    ):
        assert form not in left
        assert json.dumps(form)[1:-1] not in left


@given(st.text(min_size=1), st.text(), st.text())
def test_a_listed_value_is_nowhere_afterwards(value, before, after):
    redactor = Redactor(values=[value])
    text = before + value + after
    assert redactor.suspects(json.dumps(text))
    cleaned = redactor.text(text)
    # Other than where the mask itself, or what it made of its neighbours, happens to contain it.
    assert value not in cleaned or value in MASK or MASK in cleaned


def test_values_are_learnt():
    redactor = Redactor()
    redactor.learn_arguments(
        {
            "source": {"api_key": "abcdef-123"},
            "list": [{"token": {"value": "ghijkl-456"}}],
            "path": "/mnt/data",
        }
    )
    assert redactor.text("abcdef-123 ghijkl-456 /mnt/data") == f"{MASK} {MASK} /mnt/data"


@pytest.mark.parametrize("value", ["short", True, None, "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER", MASK])
def test_what_is_not_learnt(value):
    redactor = Redactor()
    redactor.learn(value)
    assert redactor.known() == []


def test_what_is_learnt_is_bounded():
    redactor = Redactor()
    for number in range(2 * MOST_LEARNT):
        redactor.learn(f"secret-{number:06}")
    assert len([value for value in redactor.known() if value.startswith("secret-")]) <= MOST_LEARNT


def test_the_environment():
    redactor = Redactor()
    redactor.learn_environment(
        {
            "K8S_AUTH_API_KEY": "from-k8s-auth",
            "KUBEFERRY_PUBLISH_TOKEN": "from-kubeferry",
            "AWS_SECRET_ACCESS_KEY": "from-aws-secret",
            "ANSIBLE_VAULT_PASSWORD_FILE": "/etc/vault-password",
            "HOME": "/home/somebody",
        }
    )
    text = "from-k8s-auth from-kubeferry from-aws-secret /etc/vault-password /home/somebody"
    assert redactor.text(text) == f"{MASK} {MASK} {MASK} /etc/vault-password /home/somebody"


@pytest.mark.parametrize(
    ("name", "learnt"),
    [
        ("DB_PASS", True),
        ("MYSQL_PWD", True),
        ("PASS", True),
        ("SESSION_COOKIE", True),
        ("DB_PW", True),
        ("DBPW2", True),
        ("DB_PASS2", True),
        ("SESSION_KEY", True),
        ("KUBECONFIG", False),
        ("XDG_SESSION_ID", False),
        ("GIT_ASKPASS", False),
        ("PWD", False),
        ("OLDPWD", False),
    ],
)
def test_names_in_the_environment(name, learnt):
    redactor = Redactor()
    redactor.learn_environment({name: "/a/value-of-it"})
    assert (redactor.text("a /a/value-of-it here") == f"a {MASK} here") is learnt


def test_what_a_secret_option_refers_to_is_secret():
    redactor = Redactor()
    redactor.is_template = lambda text: True
    redactor.learn_arguments({"url_password": "{{ plain | default('x') }}", "token": "{{ one }}-{{ two }}"})
    assert redactor.templates() == ["{{ plain | default('x') }}", "{{ one }}-{{ two }}"]
    assert redactor.templates() == []
    redactor.learn_arguments({"plain": "hunter22", "one": "harmless"})
    assert redactor.text("hunter22 harmless") == f"{MASK} harmless"


def test_braces_that_are_no_template_are_learnt():
    redactor = Redactor()
    redactor.is_template = lambda text: "really" in text
    redactor.learn_environment({"A_TOKEN": "begins{{x"})
    redactor.learn_result({"stdout": '{"token": "whole{{x}}"}', "b_password": "{{ really }}"})
    redactor.learn_arguments({"body": '{"token": "{{ inner }}", "other": "{{ really }}"}'})
    assert redactor.known() == ["begins{{x", "whole{{x}}"]
    assert redactor.templates() == ["{{ really }}", "{{ inner }}"]


def test_more_templates_than_can_be_kept_are_noticed():
    redactor = Redactor()
    redactor.is_template = lambda text: True
    redactor.learn([f"{{{{ part{number} }}}}" for number in range(MOST_TEMPLATES)] * 2)
    assert not redactor.full
    redactor.learn("{{ one_too_many }}")
    assert redactor.full


def test_json_in_a_text_teaches_what_stands_behind_its_names():
    redactor = Redactor()
    redactor.learn_arguments({"stdout": '{"a": [{"access_token": "sesame-open"}], "b": "harmless"}'})
    redactor.learn_arguments({"stdout": '{"token": "cut off'})
    assert redactor.text("sesame-open harmless") == f"{MASK} harmless"


def test_of_a_result_that_was_kept_under_a_secret_name_only_what_was_said():
    redactor = Redactor()
    redactor.learn(
        {"changed": True, "cmd": ["kubectl", "get"], "stdout": " sesame-open\n", "stderr_lines": ["harmless"]}
    )
    redactor.learn({"changed": True, "results": [{"changed": True, "stdout": "hunter22"}]})
    redactor.learn({"changed": True, "stdout": "several words that say nothing"})
    said = "kubectl sesame-open harmless hunter22 several words that say nothing"
    assert redactor.text(said) == f"kubectl {MASK} harmless {MASK} several words that say nothing"


@pytest.mark.parametrize(
    "value",
    [
        {"app": "hunter22", "changed": "2026-01-01"},
        {"name": "hunter22", "source": "vault", "version": 3},
    ],
)
def test_what_only_looks_like_a_result_or_a_package(value):
    redactor = Redactor()
    redactor.learn_arguments({"db_secrets": value})
    assert redactor.text("hunter22") == MASK


def test_of_many_values_each_is_found_and_too_many_are_noticed():
    redactor = Redactor()
    values = [f"value-{number:04}" for number in range(MOST_LEARNT)]
    redactor.learn(values)
    assert not redactor.full
    for value in (values[0], values[499], values[-1]):
        assert redactor.suspects(json.dumps(f"it is {value}"))
        assert redactor.text(f"it is {value}.") == f"it is {MASK}."
    assert not redactor.suspects(json.dumps("valu e-0001"))
    redactor.learn("one-too-many")
    assert redactor.full


def test_what_was_learnt_is_told_once():
    redactor = Redactor(values=["listed"])
    redactor.learn("hunter22")
    redactor.learn("hunter22")
    assert redactor.fresh() == ["hunter22"]
    assert redactor.fresh() == []


def test_facts_are_searched_through_by_name():
    redactor = Redactor()
    facts = {f"fact_{number}": {"inner": [number, "text"]} for number in range(2_000)}
    facts["env"] = {"PWD": "/home/somebody", "REMOTE_DB_PASSWORD": "hunter22"}
    facts["deep"] = {"a": {"b": {"c": {"d": {"e": {"f": {"token": "sesame-open"}}}}}}}
    redactor.learn_arguments({"ansible_facts": facts})
    assert redactor.text("hunter22 sesame-open /home/somebody") == f"{MASK} {MASK} /home/somebody"


def test_how_much_is_searched_is_bounded():
    redactor = Redactor()
    endless = {"a": [0] * MOST_SEARCHED}
    endless["again"] = endless
    redactor.learn_arguments(endless)
    redactor.learn([[endless]])
    assert redactor.known() == []


def test_the_names_of_programs_tell_of_nothing():
    redactor = Redactor()
    redactor.learn_arguments(
        {
            "services": {
                "systemd-ask-password.service": {
                    "name": "systemd-ask-password.service",
                    "state": "running",
                    "status": "enabled",
                    "source": "systemd",
                }
            },
            "packages": {
                "passwdqc": [{"name": "passwdqc", "version": "1.4.0-1", "arch": "x86_64", "source": "rpm"}]
            },
            "getent_passwd": {"root": ["x", "0", "0", "root", "/root", "/bin/bash"]},
            "db_password": {"name": "db", "source": "vault", "value": "hunter22"},
        }
    )
    assert (
        redactor.text("running systemd x86_64 /bin/bash hunter22")
        == f"running systemd x86_64 /bin/bash {MASK}"
    )


def test_a_users_names_hold_for_the_environment_too():
    redactor = Redactor(keys=["^my_"])
    redactor.learn_environment({"MY_FIELD": "hunter22", "OTHER": "harmless", 1: "harmless"})
    assert redactor.text("hunter22 harmless") == f"{MASK} harmless"


def bash(command, value):
    return subprocess.run(
        ["bash", "-xc", command, "bash", value],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout


def go(value):
    escaped = json.dumps(value, ensure_ascii=False)
    for letter in "<>&":
        escaped = escaped.replace(letter, f"\\u{ord(letter):04x}")
    return escaped


def php(value):
    return json.dumps(value).replace("/", "\\/")


def capital(value):
    return re.sub(r"\\u....", lambda escape: "\\u" + escape[0][2:].upper(), json.dumps(value))


@pytest.mark.parametrize(
    "write",
    [
        lambda value: bash('printf "%q\\n" "$1"', value),
        lambda value: bash('true "$1"', value),
        lambda value: bash('echo "$1" | base64', value),
        lambda value: bash('printf %s "$1" | base64 -w 0', value),
        go,
        lambda value: json.dumps(go(value)),
        php,
        capital,
        lambda value: f"{value}\n",
        lambda value: bash("set +x; v=$1; declare -p v", value).splitlines()[-1].partition("=")[2],
        lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
        lambda value: quote(value, safe="!'()*"),
        lambda value: re.sub("%..", lambda escape: escape[0].lower(), quote(value, safe="")),
    ],
    ids=(
        "%q|set -x|base64|base64 -w 0|Go|Go in JSON|PHP|capital|plain|"
        "declare -p|base64url|encodeURIComponent|small hex"
    ).split("|"),
)
@pytest.mark.parametrize(
    "value",
    [
        "one-word-x1",
        "two'quote-Word",
        "3<x>&amp-long",
        "4/sl/ash-pw",
        '5 Stück "$x" \\ y',
        "q7" * 51,
        "6\ttab\x01'and\x1b\\",
        "7!b(c)*d'/e~~~???>>>",
    ],
)
def test_values_as_programs_write_them(write, value):
    redactor = Redactor()
    redactor.learn(value)
    written = write(value)
    assert redactor.suspects(json.dumps(written))
    left = set(re.findall(r"\w+", redactor.text(written)))
    assert left <= {"redacted", "printf", "q", "n", "true", "echo", "base64", "s", "w", "0"}


@pytest.mark.parametrize("before", ["", "'", '"', "'\""])
@pytest.mark.parametrize(
    "value", ["both'qu\"otes", "one'quote", 'other"quote', "con\x1btr\tol", "back\\'slash", "\u2063hidden"]
)
def test_values_in_a_list_that_python_wrote(value, before):
    written = str([before + value])
    redactor = Redactor()
    redactor.learn(value)
    assert redactor.suspects(json.dumps(written))
    before_mask, mask, after_mask = redactor.text(written).partition(MASK)
    assert mask
    assert set(before_mask + after_mask) <= set("[]'\"\\")


def test_a_number_that_python_does_not_write_out_hurts_nobody():
    redactor = Redactor()
    redactor.learn([10**5000, "hunter22"])
    assert redactor.known() == ["hunter22"]


def test_base64_that_goes_on_after_a_value():
    redactor = Redactor(values=["hunter22-and-more"])
    text = base64.b64encode(b"hunter22-and-more:and what follows").decode()
    assert redactor.suspects(text)
    assert redactor.text(text) == MASK + base64.b64encode(b"re:and what follows").decode()


def test_the_shapes_of_kubernetes_teach_what_is_secret():
    redactor = Redactor()
    redactor.learn_arguments(
        {
            "pod": {
                "env": [
                    {"name": "DB_PASSWORD", "value": "in-an-environment"},
                    {"name": "A", "value": "B-is-harmless"},
                ]
            },
            "list": [{"kind": "Secret", "stringData": {"dsn": "in-a-secret"}, "data": {"x": "aW4tZGF0YQ=="}}],
            "map": {"kind": "ConfigMap", "data": {"x": "in-a-map"}},
        }
    )
    said = "in-an-environment B-is-harmless in-a-secret aW4tZGF0YQ== in-a-map"
    assert redactor.text(said) == f"{MASK} B-is-harmless {MASK} {MASK} in-a-map"


def test_the_data_of_secrets_is_known_decoded_and_in_a_list_too():
    encoded = {word: base64.b64encode(word.encode()).decode() for word in ("hunter22", "sesame-open", "abc")}
    redactor = Redactor()
    redactor.learn_arguments(
        {"kind": "Secret", "data": {"dsn": encoded["hunter22"], "short": encoded["abc"], "n": 1}}
    )
    secrets = {"kind": "SecretList", "items": [{"metadata": {"name": "harmless"}, "data": encoded}, 1]}
    redactor.learn_result({"stdout": json.dumps(secrets)})
    said = f"hunter22 sesame-open harmless abc {' '.join(encoded.values())}"
    assert redactor.text(said) == f"{MASK} {MASK} harmless abc {MASK} {MASK} {encoded['abc']}"
    redactor = Redactor()
    redactor.learn_result(secrets)
    assert redactor.known() == ["hunter22", "sesame-open"]
    redactor = Redactor()
    registry = '{"auths": {"a.example": {"auth": "dXNlcjpwYXNz"}}}'
    data = {
        "namespace": "bW9uaXRvcmluZw==",
        ".dockerconfigjson": base64.b64encode(registry.encode()).decode(),
    }
    redactor.learn_result({"kind": "Secret", "data": data})
    assert redactor.text("monitoring dXNlcjpwYXNz") == f"monitoring {MASK}"
    assert redactor.text(" ".join(data.values())) == f"{MASK} {MASK}"
    redactor.learn_result({"kind": "Secret", "data": "of-no-kind"})
    assert redactor.text("of-no-kind") == MASK


def test_an_item_of_dict2items():
    redactor = Redactor()
    redactor.learn_arguments(
        {"item": [{"key": "db_password", "value": "hunter22"}, {"key": "a", "value": "harmless"}]}
    )
    assert redactor.text("hunter22 harmless") == f"{MASK} harmless"


@pytest.mark.parametrize(
    "word",
    [
        "password-",
        "token",
        "--token",
        "--x-token-",
        "://a:",
        "://a:b:c",
        "://x@",
        "eyJaaaaaaaa-",
        "eyJaaaaaaaa.bbbb-",
    ],
)
def test_a_text_made_for_it_takes_no_time_by_its_square(word):
    text = word * (48_000 // len(word))
    began = time.process_time()
    Redactor().text(text)
    assert time.process_time() - began < 0.4


@pytest.mark.parametrize("before", [0, 3_000, 3_995, 9_000, 12_050])
def test_of_a_very_long_secret_no_part_is_left_where_a_text_is_cut(before):
    secret = "".join(f"{number:05}" for number in range(10_001, 20_001))
    redactor = Redactor(values=[secret])
    text = " " * before + secret + "and more" * 1_000
    assert redactor.cut(text, 4_000).replace(MASK, "").strip() == ""
    assert redactor.text(secret) == MASK


def test_what_is_known_is_told_without_its_forms():
    redactor = Redactor(values=["it's <one>"])
    redactor.learn("hunter22")
    assert redactor.known() == ["it's <one>", "hunter22"]


def test_what_events_are_made_of_is_not_learnt():
    redactor = Redactor()
    redactor.hosts = {"server01": None}
    redactor.learn(["missing", "failed", "unreachable", "localhost", "server01", "server02"])
    assert redactor.known() == ["server02"]


def test_an_events_own_words_stay_where_a_user_lists_them():
    words = ["failed", "missing", "h1", "failures", "end", "t1", "p1"]
    data = {
        "status": "failed",
        "phase": "end",
        "task_id": "t1",
        "play_id": "p1",
        "host": "h1",
        "stats": {"h1": {"failures": 1}},
        "totals": {"failures": 1},
        "parity": {"counts": {"missing": 1}, "missing": ["a"]},
    }
    said = {"msg": "missing h1"}
    assert Redactor(values=words).scrub(data | said) == data | {"msg": f"{MASK} {MASK}"}


def test_names_that_a_mask_makes_equal_stay_apart():
    redactor = Redactor(values=["hunter22", "sesame-open"])
    told = redactor.scrub({"result": {"hunter22": 1, "a sesame-open": 2, "sesame-open": 3, "a hunter22": 4}})
    assert told == {"result": {MASK: 1, f"a {MASK}": 2, "<redacted 2>": 3, "a <redacted 2>": 4}}


def test_a_host_is_always_called_the_same_and_never_as_another_one():
    redactor = Redactor(values=["hunter22", "sesame-open"])
    assert redactor.host("server-x1") == "server-x1"
    redactor.learn("server")
    names = [
        redactor.host(name) for name in ("hunter22", "sesame-open", "hunter22", "server-x1", "server-x2")
    ]
    assert names == [MASK, "<redacted 2>", MASK, "server-x1", f"{MASK}-x2"]


def test_bytes_that_are_not_utf_8():
    value = b"caf\xe9-hunter22".decode(errors="surrogateescape")
    redactor = Redactor()
    redactor.learn([value, "\ud800-no-bytes"])
    base64_of_it = base64.b64encode(b"caf\xe9-hunter22").decode()
    text = f"{value} {base64_of_it} caf%E9-hunter22 \ud800-no-bytes"
    assert redactor.suspects(json.dumps(value))
    assert redactor.text(text) == f"{MASK} {MASK} {MASK} {MASK}"


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 1}\n{"token": "sesame-open"}\n',
        'Warning: old\n{\n  "kind": "Secret", "data": {"dsn": "sesame-open"}\n}',
        '\n[{"token": "sesame-open"}]\nbye',
        '{"cut": "off\n[2026 begins otherwise\n["a", {"token": "sesame-open"}]',
        json.dumps({"fill": "x" * 500_000, "token": "sesame-open"}),
        ' \r\n\t{"token": "sesame-open"}',
        '\ufeff{"token": "sesame-open"}',
        '[1, {"token": "sesame-open"}]',
    ],
    ids=[
        "lines",
        "after a warning",
        "in between",
        "after what is none",
        "long",
        "blanks",
        "byte order mark",
        "list",
    ],
)
def test_json_among_what_a_program_said(text):
    redactor = Redactor()
    redactor.learn_arguments({"stdout": text})
    assert redactor.known() == ["sesame-open"]


def test_how_long_json_is_looked_for_is_bounded(monkeypatch):
    monkeypatch.setattr(_redact, "_MOST_TRIED", 10_000)
    redactor = Redactor()
    redactor.learn_arguments({"stdout": '{"token": x\n' * 20 + '{"token": "sesame-open"}'})
    redactor.learn_arguments({"stdout": '{"a":' * 100_000 + ' "token"'})
    assert redactor.known() == []


def test_a_result_is_searched_whole():
    redactor = Redactor()
    many = [{"kind": "Secret", "data": {"dsn": f"of-secret-{number:03}"}} for number in range(300)]
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": {"password": "far-below"}}}}}}}}}}
    redactor.learn_result(
        {
            "resources": many,
            "json": deep,
            "stderr": '{"token": "on-stderr"}',
            "again": ['{"token": "no-more"}'],
        },
        {"again"},
    )
    redactor.learn_result({"db_password": "at-the-top", "echo": False, "user_input": "typed-unseen"})
    known = redactor.known()
    assert len(known) == 304
    assert {"of-secret-299", "far-below", "on-stderr", "at-the-top", "typed-unseen"} <= set(known)
