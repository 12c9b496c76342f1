# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The test cluster's side: users who may read events and users who may not, and an issuer that it trusts."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes
import pytest

ADMIN = "KUBEFERRY_ADMIN_KUBECONFIG"
READER, NOBODY = "reader", "nobody"


class TestCluster:
    """A namespace of its own on the cluster, with an account that may read its events and one that may not."""

    __test__ = False

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = f"kubeferry-events-{uuid.uuid4().hex[:6]}"
        client = kubernetes.config.new_client_from_config(kubeconfig)
        self.core = kubernetes.client.CoreV1Api(client)
        self.rbac = kubernetes.client.RbacAuthorizationV1Api(client)

    def prepare(self) -> None:
        self.core.create_namespace({"metadata": {"name": self.namespace}})
        for name in (READER, NOBODY):
            self.core.create_namespaced_service_account(self.namespace, {"metadata": {"name": name}})
        rule = {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "list", "watch"]}
        self.rbac.create_namespaced_role(self.namespace, {"metadata": {"name": "events"}, "rules": [rule]})
        subjects = [
            {"kind": "ServiceAccount", "name": READER, "namespace": self.namespace},
            {"kind": "User", "name": "oidc:reader", "apiGroup": "rbac.authorization.k8s.io"},
        ]
        role = {"kind": "Role", "name": "events", "apiGroup": "rbac.authorization.k8s.io"}
        binding = {"metadata": {"name": "events"}, "roleRef": role, "subjects": subjects}
        self.rbac.create_namespaced_role_binding(self.namespace, binding)

    def remove(self) -> None:
        self.core.delete_namespace(self.namespace)

    def token(self, account: str) -> str:
        answer = self.core.create_namespaced_service_account_token(
            account, self.namespace, {"spec": {"expirationSeconds": 600}}
        )
        return answer.status.token

    def event(self, reason: str, message: str, kind: str = "Normal") -> dict[str, Any]:
        """Something happens in the namespace."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {
            "metadata": {"generateName": "made-up-"},
            "involvedObject": {"kind": "Pod", "namespace": self.namespace, "name": "busybox-sleep"},
            "reason": reason, "message": message, "type": kind, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
        }  # fmt: skip
        return self.core.create_namespaced_event(self.namespace, body)

    @property
    def authentication_file(self) -> Path:
        return Path(self.kubeconfig).parent / "control" / "authentication.json"

    def _reloads(self) -> float:
        client = self.core.api_client
        answer = client.rest_client.pool_manager.request(
            "GET", f"{client.configuration.host}/metrics", timeout=10
        )
        data = answer.data.decode()
        name = "apiserver_authentication_config_controller_automatic_reloads_total"
        return sum(
            float(line.split()[-1])
            for line in data.splitlines()
            if line.startswith(name) and "success" in line
        )

    @contextmanager
    def trusting(self, issuer: str, authority: str) -> Iterator[None]:
        """While inside, the API server takes the issuer's ID tokens; names get the prefix `oidc:`."""
        before = self.authentication_file.read_text()
        jwt = {
            "issuer": {"url": issuer, "certificateAuthority": authority, "audiences": ["kubeferry"]},
            "claimMappings": {"username": {"claim": "preferred_username", "prefix": "oidc:"}},
        }
        reloads = self._reloads()
        self.authentication_file.write_text(json.dumps({**json.loads(before), "jwt": [jwt]}))
        try:
            until = time.monotonic() + 90
            while self._reloads() <= reloads:
                assert time.monotonic() < until, "the API server did not take the issuer up"
                time.sleep(0.5)
            yield
        finally:
            self.authentication_file.write_text(before)


@contextmanager
def cluster_for_tests() -> Iterator[TestCluster]:
    """Skips where no cluster is named."""
    if not os.environ.get(ADMIN):
        pytest.skip(f"{ADMIN} names no cluster: run by `make server`")
    cluster = TestCluster(os.environ[ADMIN])
    cluster.prepare()
    try:
        yield cluster
    finally:
        cluster.remove()
