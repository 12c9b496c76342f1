# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The command line: ``tests/cluster/cluster VERB``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import build, content, external, packages, python_image, report
from .cluster import Cluster
from .errors import ClusterError
from .layout import MAX_NODES, Layout

UNPRIVILEGED = ("build", "check", "logs")
CHECKOUT = Path(__file__).resolve().parents[3]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster", description="A real Kubernetes for the tests.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="start the cluster, or repair it; at once if it is running")
    up.add_argument("--nodes", type=int, default=1, choices=range(1, MAX_NODES + 1), metavar="N")
    verbs.add_parser("down", help="remove the cluster and all that it made")
    verbs.add_parser("status", help="how it is; exit status 1 if something is not well")
    verbs.add_parser("build", help="build Kubernetes into the cache and print where")
    logs = verbs.add_parser("logs", help="where the logs are, or the end of one")
    logs.add_argument("service", nargs="?")
    logs.add_argument("-n", "--lines", type=int, default=50)
    claim = verbs.add_parser("claim", help="make (or delete) a claim with a volume of its own")
    claim.add_argument("namespace")
    claim.add_argument("name")
    claim.add_argument("--size", default="10Gi")
    claim.add_argument("--access-mode", default="ReadWriteOnce")
    claim.add_argument("--volume-mode", default="Filesystem", choices=["Filesystem", "Block"])
    claim.add_argument("--wait-for-consumer", action="store_true", help="bind only when a pod uses it")
    claim.add_argument("--pending", action="store_true", help="no volume: it stays Pending")
    claim.add_argument("--delete", action="store_true")
    check = verbs.add_parser(
        "check", help="prepare the cluster that KUBECONFIG names, instead of one of our own"
    )
    further = verbs.add_parser("namespace", help="make further namespaces like the standard ones")
    check.add_argument("namespaces", nargs="*", default=[content.SOURCE, content.DESTINATION])
    further.add_argument("namespaces", nargs="+")
    verbs.add_parser(
        "python-image", help="give the nodes an image that the event server runs in, and print its name"
    )
    verbs.add_parser("stop-apiserver", help="stop the API server alone")
    verbs.add_parser("start-apiserver", help="start it again")
    verbs.add_parser("restart-apiserver", help="restart it, cutting every connection")
    verbs.add_parser("restart-containerd", help="restart containerd, cutting every exec stream")
    return parser


def _claim(cluster: Cluster, options: argparse.Namespace) -> str:
    cluster.instance()
    if options.delete:
        content.delete_claim(cluster.layout, cluster.kubectl, options.namespace, options.name)
        return f"{options.namespace}/{options.name} is deleted."
    claim = content.Claim(
        options.namespace,
        options.name,
        options.size,
        options.access_mode,
        options.volume_mode,
        "kubeferry-wait" if options.wait_for_consumer else "kubeferry-test",
        options.pending,
    )
    content.make_claims(cluster.layout, cluster.kubectl, (claim,))
    if claim.pending:
        return f"{claim.namespace}/{claim.name} has no volume and stays Pending."
    return str(cluster.layout.volumes / claim.namespace / claim.name)


def _further(cluster: Cluster, namespaces: Sequence[str]) -> str:
    cluster.instance()
    for namespace in namespaces:
        content.further(cluster.layout, cluster.kubectl, namespace)
    return f"{', '.join(namespaces)}: ready."


def _carry_out(cluster: Cluster, options: argparse.Namespace) -> int:
    if options.verb not in UNPRIVILEGED:
        packages.require_root()
    if options.verb == "status":
        page, well = report.status(cluster)
        print(page)
        return 0 if well else 1
    actions = {
        "up": lambda: cluster.up(options.nodes),
        "down": cluster.down,
        "build": lambda: str(build.build()),
        "python-image": lambda: python_image.load(cluster.nodes(cluster.instance()), CHECKOUT),
        "logs": lambda: report.logs(cluster, options.service, options.lines),
        "claim": lambda: _claim(cluster, options),
        "check": lambda: external.check(options.namespaces),
        "namespace": lambda: _further(cluster, options.namespaces),
        "stop-apiserver": cluster.stop_apiserver,
        "start-apiserver": cluster.start_apiserver,
        "restart-apiserver": cluster.restart_apiserver,
        "restart-containerd": cluster.restart_containerd,
    }
    print(actions[options.verb]())
    return 0


def main() -> int:
    """Carry out one verb; every failure ends in one sentence."""
    options = _parser().parse_args()
    try:
        return _carry_out(Cluster(Layout(CHECKOUT)), options)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cluster: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cluster: interrupted; `up` goes on from here, `down` removes it.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
