# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The command line: ``tests/cluster/cluster VERB``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import build
from .cluster import Cluster
from .errors import ClusterError
from .layout import Layout

CHECKOUT = Path(__file__).resolve().parents[3]


def main() -> int:
    """Carry out one verb; every failure ends in one sentence."""
    parser = argparse.ArgumentParser(prog="cluster", description="A real Kubernetes for the tests.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="start the cluster, or repair it")
    verbs.add_parser("down", help="remove the cluster and all it made")
    verbs.add_parser("build", help="build Kubernetes into the cache")
    options = parser.parse_args()
    cluster = Cluster(Layout(CHECKOUT))
    try:
        if options.verb == "up":
            cluster.up()
        elif options.verb == "down":
            cluster.down()
        elif options.verb == "build":
            build.build()
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
