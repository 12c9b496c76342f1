# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Images are the same bytes whenever they are made of the same files."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

from testkube import images


def _layer() -> images.Layer:
    layer = images.Layer()
    layer.common()
    layer.files["bin/program"] = (0o755, b"\x7fELF")
    layer.hardlinks["bin/other"] = "bin/program"
    layer.symlinks["usr/bin/env"] = "../../bin/env"
    return layer


def test_a_layer_does_not_depend_on_the_order_or_the_time():
    other = images.Layer()
    other.symlinks["usr/bin/env"] = "../../bin/env"
    other.hardlinks["bin/other"] = "bin/program"
    other.files["bin/program"] = (0o755, b"\x7fELF")
    other.common()
    assert _layer().tar() == other.tar()


def test_a_hard_link_follows_the_file_that_it_names():
    with tarfile.open(fileobj=io.BytesIO(_layer().tar())) as tar:
        names = tar.getnames()
        assert names.index("bin/program") < names.index("bin/other")
        assert tar.getmember("tmp").mode == 0o1777


def test_an_archive_names_its_image_and_the_digest_of_its_layer():
    layer = _layer().tar()
    archive = images.archive("docker.io/library/x:1", layer, ["/bin/sh"])
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        config = json.load(tar.extractfile("config.json"))
    assert manifest[0]["RepoTags"] == ["docker.io/library/x:1"]
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(layer).hexdigest()]
