# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""etcd, the API server, the controller manager and the scheduler: processes of the host, on loopback only."""

from __future__ import annotations

from pathlib import Path

from . import api
from .errors import ClusterError
from .group import Group, Service
from .kubeconfig import write as write_kubeconfig
from .layout import Instance, Layout
from .pki import Pki
from .proc import wait_until, write_if_changed

CRASHES = 5  # etcd may be slow to appear, and the API server ends once or twice until it does
COPIER_NAMESPACE = "source-namespace"
# Who else vouches for users. It begins empty; a test may put an OpenID Connect issuer in, and the API server reads the
# file again by itself within a minute.
NO_ISSUERS = (
    '{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": []}\n'
)


def group(layout: Layout) -> Group:
    """The control plane's supervisor."""
    return Group(layout.state / "control")


def authentication(layout: Layout) -> Path:
    """The API server's AuthenticationConfiguration."""
    return layout.state / "control" / "authentication.json"


def make_pki(layout: Layout, instance: Instance) -> Pki:
    """Every key and certificate that does not belong to a node."""
    pki = Pki(layout.pki)
    for authority in ("ca", "etcd-ca"):
        pki.authority(authority)
    # etcd has an authority of its own: whoever may talk to it may do anything, and "ca" also vouches for "copier".
    pki.issue("etcd", "etcd-ca", "etcd", names=["IP:127.0.0.1"])
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    addresses = ["127.0.0.1", instance.host_address, str(instance.services[1])]
    names = [f"DNS:{name}" for name in names] + [f"IP:{address}" for address in addresses]
    pki.issue("apiserver", "ca", "kube-apiserver", names=names)
    pki.issue("apiserver-kubelet", "ca", "kube-apiserver-kubelet-client", "system:masters")
    pki.issue("admin", "ca", "admin", "system:masters")
    pki.issue("controller-manager", "ca", "system:kube-controller-manager")
    pki.issue("scheduler", "ca", "system:kube-scheduler")
    pki.issue("kube-proxy", "ca", "system:kube-proxy")
    pki.issue("copier", "ca", "copier")
    pki.issue("nobody", "ca", "nobody")
    pki.signing_key("service-account")
    return pki


def make_kubeconfigs(layout: Layout, instance: Instance, pki: Pki) -> None:
    """The kubeconfigs of the administrator, the two test users, and the control plane's own parts."""
    server = f"https://127.0.0.1:{instance.api_port}"
    write_kubeconfig(layout.kubeconfig, server, pki, "admin", "admin")
    write_kubeconfig(layout.state / "kubeconfig-copier", server, pki, "copier", "copier", COPIER_NAMESPACE)
    write_kubeconfig(layout.state / "kubeconfig-nobody", server, pki, "nobody", "nobody")
    if not authentication(layout).exists():
        write_if_changed(authentication(layout), NO_ISSUERS)
    for part in ("controller-manager", "scheduler"):
        write_kubeconfig(layout.state / "control" / f"{part}.kubeconfig", server, pki, part, part)


def services(layout: Layout, instance: Instance, binaries: Path) -> list[Service]:
    """The control plane's processes, in the order in which they start."""
    pki = Pki(layout.pki)

    def service(name: str, program: str | Path, *flags: str) -> Service:
        return Service(name, [str(program), *flags], str(layout.logs / f"{name}.log"))

    etcd = f"https://127.0.0.1:{instance.etcd_port}"
    etcd_peer = f"https://127.0.0.1:{instance.etcd_peer_port}"
    certificate, key, ca = pki.certificate, pki.key, pki.certificate("ca")
    return [
        service(
            "etcd",
            "etcd",
            f"--data-dir={layout.state / 'etcd'}",
            "--name=default",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={etcd_peer}",
            f"--initial-advertise-peer-urls={etcd_peer}",
            f"--initial-cluster=default={etcd_peer}",
            "--logger=zap",
            *(f"--{side}cert-file={certificate('etcd')}" for side in ("", "peer-")),
            *(f"--{side}key-file={key('etcd')}" for side in ("", "peer-")),
            *(f"--{side}trusted-ca-file={certificate('etcd-ca')}" for side in ("", "peer-")),
            *(f"--{side}client-cert-auth" for side in ("", "peer-")),
        ),
        service(
            "kube-apiserver",
            binaries / "kube-apiserver",
            "--bind-address=127.0.0.1",
            f"--secure-port={instance.api_port}",
            f"--advertise-address={instance.host_address}",
            f"--etcd-servers={etcd}",
            f"--etcd-cafile={certificate('etcd-ca')}",
            f"--etcd-certfile={certificate('etcd')}",
            f"--etcd-keyfile={key('etcd')}",
            f"--client-ca-file={ca}",
            f"--authentication-config={authentication(layout)}",
            f"--tls-cert-file={certificate('apiserver')}",
            f"--tls-private-key-file={key('apiserver')}",
            f"--kubelet-certificate-authority={ca}",
            f"--kubelet-client-certificate={certificate('apiserver-kubelet')}",
            f"--kubelet-client-key={key('apiserver-kubelet')}",
            # exec would otherwise look up the node's name, and nothing here resolves it
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={instance.services}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki.directory / 'service-account.pub'}",
            f"--service-account-signing-key-file={key('service-account')}",
        ),
        # The API server listens on loopback alone; nodes and pods reach it here, at the bridge's address.
        service(
            "api-forward",
            "socat",
            "-b65536",
            f"TCP-LISTEN:{instance.api_port},bind={instance.host_address},reuseaddr,fork,nodelay",
            f"TCP:127.0.0.1:{instance.api_port},nodelay",
        ),
        service(
            "kube-controller-manager",
            binaries / "kube-controller-manager",
            f"--kubeconfig={layout.state / 'control' / 'controller-manager.kubeconfig'}",
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials",
            # a claim seen a moment before its volume would otherwise wait 15 s for the next look
            "--pvclaimbinder-sync-period=1s",
            f"--root-ca-file={ca}",
            f"--service-account-private-key-file={key('service-account')}",
            f"--cluster-signing-cert-file={ca}",
            f"--cluster-signing-key-file={key('ca')}",
        ),
        service(
            "kube-scheduler",
            binaries / "kube-scheduler",
            f"--kubeconfig={layout.state / 'control' / 'scheduler.kubeconfig'}",
            "--secure-port=0",
            "--leader-elect=false",
        ),
    ]


def start(layout: Layout, instance: Instance, binaries: Path) -> None:
    """Start what is not running; returns at once, see :func:`wait_ready`."""
    control = group(layout)
    for directory in (control.directory, layout.logs):
        directory.mkdir(parents=True, exist_ok=True)
    make_kubeconfigs(layout, instance, make_pki(layout, instance))
    if control.pid is None:
        control.launch()
    control.apply(services(layout, instance, binaries))


def wait_ready(layout: Layout, instance: Instance, timeout: float = 120) -> None:
    """Wait until the API server is ready; fail early if it or etcd does nothing but crash."""
    before = _restarts(layout)

    def probe() -> bool:
        for name, restarts in _restarts(layout).items():
            if restarts - before.get(name, 0) >= CRASHES:
                raise ClusterError(f"{name} keeps crashing.", layout.logs / f"{name}.log")
        return api.is_ready(layout, instance)

    log = layout.logs / "kube-apiserver.log"
    wait_until("the API server to be ready", probe, timeout, log=log, interval=0.2)
    _correct_endpoint(layout, instance)


def _restarts(layout: Layout) -> dict[str, int]:
    services = group(layout).services()
    return {name: services[name]["restarts"] for name in ("etcd", "kube-apiserver") if name in services}


def _correct_endpoint(layout: Layout, instance: Instance) -> None:
    """Let the API server write its own Service's endpoint anew if its port has changed: it keeps an old port."""
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    ports = (api.get(layout, instance, path) or {}).get("ports", [])
    if ports and ports[0]["port"] != instance.api_port:
        for old in (path, "/api/v1/namespaces/default/endpoints/kubernetes"):
            api.delete(layout, instance, old)
        wait_until("the API server's own endpoint", lambda: bool(api.get(layout, instance, path)), 30)
