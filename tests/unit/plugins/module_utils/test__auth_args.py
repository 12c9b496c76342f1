# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors

from __future__ import annotations

from ansible_collections.kubernetes.core.plugins.module_utils import args_common

from ansible_collections.kubeferry.pvc.plugins.module_utils import _auth_args


def test_the_options_are_those_of_kubernetes_core():
    assert _auth_args.AUTH_ARG_SPEC == args_common.AUTH_ARG_SPEC


def test_each_option_is_documented_with_its_variable():
    documentation = _auth_args.auth_documentation()
    assert documentation.keys() == args_common.AUTH_ARG_SPEC.keys()
    for key, entry in documentation.items():
        (variable,) = [part.partition(")")[0] for part in entry["description"][1].split("C(")[1:]]
        kubernetes_core = next((true for true, name in args_common.AUTH_ARG_MAP.items() if name == key), key)
        assert variable == f"K8S_AUTH_{kubernetes_core.upper()}"
    assert documentation["proxy_headers"]["suboptions"].keys() == {
        "proxy_basic_auth",
        "basic_auth",
        "user_agent",
    }


def test_names_in_a_kubeconfig_are_no_secrets_unless_something_secret_is_the_same():
    user = {
        "token": "t0ken",
        "exec": {"command": "get", "args": ["dev"], "env": [{"name": "A", "value": "v"}]},
    }
    kubeconfig = {
        "apiVersion": "v1",
        "current-context": "at-home",
        "clusters": [{"name": "dev", "cluster": {"server": "https://dev.example"}}],
        "users": [{"name": "u", "user": user}, {"name": "admin", "user": {"client-key-data": "a2V5"}}],
    }
    found = _auth_args.plain_words(
        [{"kubeconfig": "/a/path", "password": "admin"}, {"kubeconfig": kubeconfig}]
    )
    assert found == {"v1", "at-home", "u", "get", "A"}
