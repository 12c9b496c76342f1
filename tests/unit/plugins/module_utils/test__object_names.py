# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be the name of a namespace, pod, container or claim."""

from __future__ import annotations

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError
from ansible_collections.kubeferry.pvc.plugins.module_utils._object_names import check_objects


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"namespace": "a/b"}, "source.namespace: 'a/b'"),
        ({"pod": "a\nb"}, r"source.pod: 'a\\nb'"),
        ({"container": "../c"}, "source.container: '../c'"),
        ({"pvc": "Claim"}, "source.pvc: 'Claim'"),
        ({"namespace": "n" * 64}, "source.namespace: a namespace has a name of up to 63 characters"),
        ({"pvc": "c" * 254}, "source.pvc: a claim has a name of up to 253 characters"),
        ({"namespace": ""}, "source.namespace is empty"),
        ({"pod": ""}, "source.pod is empty"),
        ({"claim": {"pvc": ""}}, "source.claim.pvc is empty"),
        ({"also": [{"pvc": "a"}, {"pvc": ""}]}, "source.also.pvc is empty"),
    ],
)
def test_names_that_no_object_can_have(options, names):
    with pytest.raises(UsageError, match=names):
        check_objects({"namespace": "fine", **options}, "source.")


def test_names_that_objects_have():
    check_objects(
        {"namespace": "n" * 63, "pod": "busybox-sleep.7", "container": None, "pvc": None, "path": "/A B"}
    )
