# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role refuses before it makes a pod, as far as its variables tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROLE = Path(__file__).parents[4] / "roles" / "copy"
CLAIM = {"namespace": "shop", "pvc": "web"}
POD = {"namespace": "shop", "pod": "web-0"}


@pytest.fixture
def value():
    """Gives a variable of the role, where others are set."""
    loader = DataLoader()
    ours = loader.load_from_file(str(ROLE / "vars" / "main.yml"), trusted_as_template=True)
    return lambda name, **given: Templar(loader, {**ours, **given}).template(ours[name])


@pytest.fixture
def overlap(value):
    """How the role says that one end lies in the other."""
    return lambda source, target: value("copy_overlap", copy_source=source, copy_target=target)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ({**CLAIM, "path": "a/b"}, {**CLAIM, "path": "/a/"}, "source /a/b lies in the destination /a"),
        ({**CLAIM, "path": "./a"}, {**CLAIM, "path": "a//b"}, "destination /a/b lies in the source /a"),
        (CLAIM, {**CLAIM, "path": "a"}, "destination /a lies in the source /"),
        (CLAIM, {**CLAIM, "path": "."}, "source and the destination are the same directory, /"),
        ({**POD, "path": "/mnt/a"}, {**POD, "path": "/mnt"}, "source /mnt/a lies in the destination /mnt"),
        ({"path": "/srv/a"}, {"path": "/srv/a/../a/b"}, "destination /srv/a/b lies in the source /srv/a"),
        ({**CLAIM, "path": "a"}, {**CLAIM, "path": "ab"}, ""),
        ({**CLAIM, "context": "one"}, {**CLAIM, "context": "other"}, ""),
        (CLAIM, {**CLAIM, "pvc": "another"}, ""),
        ({**POD, "path": "/mnt"}, {"path": "/mnt"}, ""),
        ({**POD, "path": "/mnt", "container": "a"}, {**POD, "path": "/mnt", "container": "b"}, ""),
    ],
)
def test_one_end_in_the_other_is_told(overlap, source, target, said):
    assert overlap(source, target) == said


def test_the_manifest_of_what_is_staged_has_a_name_that_a_file_can_have(value):
    def manifest(claim):
        return value("copy_manifest_path", copy_staging="/s", copy_source={"path": f"/mnt/{claim}/"})

    assert manifest("pvc-0") == "/s/mnt/pvc-0.manifest.jsonl"
    found = [Path(manifest("n" * 252 + end)) for end in "ab"]
    assert found[0] != found[1]
    assert all(path.parent == Path("/s/mnt") and len(path.name) < 230 for path in found)
