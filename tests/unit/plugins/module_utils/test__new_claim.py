# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from fakeapi import claim

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import ClusterError, UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._new_claim import (
    NewClaim,
    class_problem,
    refused_claim,
    unlike,
)


def storage_class(name, provisioner="nfs.csi.k8s.io", default=False):
    key = "storageclass.kubernetes.io/is-default-class"
    annotations = {key: "true"} if default else {}
    return {"metadata": {"name": name, "annotations": annotations}, "provisioner": provisioner}


def new(**options):
    given = {"storage_class": "fast", "access_modes": ["ReadWriteOnce"], "size": "10Gi", **options}
    return NewClaim("ns", "data", **given)


def test_the_object():
    assert new().body()["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": "10Gi"}},
        "storageClassName": "fast",
    }
    assert "storageClassName" not in new(storage_class="").body()["spec"]


@pytest.mark.parametrize("options", [{"size": "0"}, {"size": "big"}, {"access_modes": []}])
def test_what_is_no_claim(options):
    with pytest.raises(UsageError):
        new(**options)


@pytest.mark.parametrize(
    ("options", "classes", "says"),
    [
        ({}, [storage_class("fast")], ""),
        (
            {},
            [storage_class("slow")],
            "storage class fast of claim ns/data doesn't exist: choose another (there are: slow)",
        ),
        ({"storage_class": ""}, [storage_class("a", default=True)], ""),
        ({"storage_class": ""}, [storage_class("a")], "the cluster no default one: name one (there are: a)"),
        ({"access_modes": ["ReadWriteMany"]}, [storage_class("fast")], ""),
        (
            {"access_modes": ["ReadWriteMany"]},
            [storage_class("fast", "ebs.csi.aws.com")],
            "has volumes for one node",
        ),
        ({}, [storage_class("fast", "ebs.csi.aws.com")], ""),
    ],
)
def test_storage_classes_that_can_not_serve(options, classes, says):
    problem = class_problem(new(**options), classes)
    assert says in problem
    assert bool(says) is bool(problem)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('persistentvolumeclaims "data" is forbidden: exceeded quota: q', "raise it, or ask for less"),
        ("maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 10Gi", "change size"),
        ('PersistentVolumeClaim "data" is invalid: spec', "can't be made as it was asked for"),
    ],
)
def test_refusals_say_what_to_do(said, words):
    error = ClusterError("no")
    error.said = said
    assert words in str(refused_claim(error, new()))
    other = ClusterError("other")
    assert refused_claim(other, new()) is other


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"storageClassName": "fast"}, ""),
        ({"storageClassName": "slow"}, "has the storage class slow, not fast"),
        ({"storageClassName": "fast", "volumeMode": "Block"}, "raw block device"),
        ({"storageClassName": "fast", "accessModes": ["ReadOnlyMany"]}, "doesn't allow ReadWriteOnce"),
        ({"storageClassName": "fast", "resources": {"requests": {"storage": "9Gi"}}}, "has 9Gi, not 10Gi"),
    ],
)
def test_a_claim_that_is_there_already(spec, words):
    found = claim(**{"resources": {"requests": {"storage": "10Gi"}}, **spec})
    assert unlike(found, new()) == words or (words and words in unlike(found, new()))
