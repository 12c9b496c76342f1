# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.kubeferry.pvc.plugins.doc_fragments.endpoint import ModuleDocFragment
from ansible_collections.kubeferry.pvc.plugins.module_utils._auth_args import AUTH_ARG_SPEC
from ansible_collections.kubeferry.pvc.plugins.module_utils._endpoint_args import endpoint_spec

SECRETS = {"kubeconfig", "api_key", "password"}


def validate(**endpoint):
    return ArgumentSpecValidator({"source": endpoint_spec()}).validate({"source": endpoint})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("source", "SOURCE"),
        ("source", "OPTIONAL_SOURCE"),
        ("target", "TARGET"),
        ("chained", "CHAINED"),
    ],
)
def test_the_documentation_has_every_option_with_its_type_and_default(name, text):
    documented = json.loads(getattr(ModuleDocFragment, text))["options"][name]["suboptions"]
    specified = endpoint_spec()["options"]
    assert documented.keys() == specified.keys()
    for key, spec in specified.items():
        assert documented[key]["type"] == spec.get("type", "str"), key
        assert documented[key].get("default") == spec.get("default"), key
        assert documented[key].get("aliases") == spec.get("aliases"), key
    assert "{" not in json.dumps([entry["description"] for entry in documented.values()])


def test_an_endpoint_takes_every_option_of_authentication():
    assert endpoint_spec()["options"].keys() >= AUTH_ARG_SPEC.keys()


def test_secrets_are_kept_out_of_logs():
    options = endpoint_spec()["options"]
    assert {key for key in options if options[key].get("no_log")} == SECRETS
    assert options["proxy_headers"]["options"]["basic_auth"]["no_log"]


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ({"pod": "a", "pvc": "b", "namespace": "c"}, "mutually exclusive"),
        ({"pod": "a"}, "namespace"),
        ({"pvc": "a"}, "namespace"),
        ({"container": "a"}, "namespace"),
        ({"manifest_digest": "a"}, "manifest"),
    ],
)
def test_options_that_do_not_fit_together(endpoint, words):
    assert words in " ".join(validate(**endpoint).error_messages)


@pytest.mark.parametrize(
    "endpoint",
    [
        {"path": "."},
        {"namespace": "a", "pod": "b", "path": "/"},
        {"namespace": "a", "pvc": "b"},
        {"manifest": "m"},
    ],
)
def test_options_that_do(endpoint):
    assert validate(**endpoint).error_messages == []


def test_each_specification_is_a_new_one():
    endpoint_spec()["options"]["api_key"]["no_log"] = False
    assert endpoint_spec()["options"]["api_key"]["no_log"]
