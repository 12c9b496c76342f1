# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""What we ask of a cluster, besides running commands: small typed methods over `_rest`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ._api_errors import capital
from ._errors import ClusterError, Forbidden, KubeferryError, NotFound
from ._pod_state import default_container, describe
from ._rest import Request, Rest

Object = dict[str, Any]


class ClusterApi:
    """Reads and changes objects, as plain dictionaries."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self.server = rest.server

    def call(self, request: Request) -> Object:
        """The answer to any request. Raises ClusterError's children."""
        return self._rest.call(request)

    def version(self) -> str:
        """The server's version, as in `v1.35.4`."""
        return self._rest.version()

    def check_namespace(self, name: str) -> None:
        """Raises NotFound if the namespace doesn't exist. Who may not look at it is told nothing."""
        self.get_namespace(name)

    def get_namespace(self, name: str) -> Object:
        """The namespace; empty for who may not look at it. Raises NotFound if it doesn't exist."""
        try:
            return self._rest.call(Request("get", "namespaces", name, name))
        except Forbidden:
            return {}

    def get_pod(self, namespace: str, name: str) -> Object:
        return self._rest.call(Request("get", "pods", namespace, name))

    def list_pods(self, namespace: str, labels: str = "", fields: str = "") -> list[Object]:
        query = {"labelSelector": labels, "fieldSelector": fields}
        return self.list_objects(Request("list", "pods", namespace, query=query))

    def create_pod(self, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        query = {"dryRun": "All"} if dry_run else {}
        name = str(body["metadata"]["name"])
        return self._rest.call(Request("create", "pods", namespace, name, query, body))

    def require_pod_removal(self, namespace: str, name: str) -> None:
        """Raises Forbidden if the user may not delete the pod. Where that can't be asked, nothing is told."""
        wanted = Request("delete", "pods", namespace, name)
        attributes = {"verb": wanted.verb, "resource": wanted.resource, "namespace": namespace, "name": name}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        asking = Request(
            "create", "selfsubjectaccessreviews", body=review, tries=1, group="authorization.k8s.io/v1"
        )
        try:
            status = self._rest.call(asking).get("status") or {}
        except KubeferryError:
            return
        if status.get("allowed") is False:
            raise Forbidden(
                f"{capital(wanted.subject)} isn't made, since it couldn't be removed again: "
                f"the user needs {wanted.needs}."
            )

    def delete_pod(self, namespace: str, name: str, uid: str = "", grace: int | None = None) -> bool:
        """Ask for the pod's end; with `uid` only if it is still that pod. False if it is gone already."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            self._rest.call(Request("delete", "pods", namespace, name, body=body))
        except NotFound:
            return False
        return True

    def get_claim(self, namespace: str, name: str) -> Object:
        return self._rest.call(Request("get", "persistentvolumeclaims", namespace, name))

    def storage_classes(self) -> list[Object]:
        """All of them. Raises Forbidden for who may not look at them."""
        return self.list_objects(Request("list", "storageclasses", group="storage.k8s.io/v1"))

    def events_of(self, namespace: str, kind: str, name: str, uid: str = "") -> list[Object]:
        """The events about an object, oldest first; none if we may not read them."""
        fields = [f"involvedObject.kind={kind}", f"involvedObject.name={name}"]
        if uid:
            fields.append(f"involvedObject.uid={uid}")
        try:
            found = self.list_objects(
                Request("list", "events", namespace, query={"fieldSelector": ",".join(fields)})
            )
        except ClusterError:
            return []
        return sorted(found, key=_when)

    def default_container(self, namespace: str, pod: str) -> str:
        """The container that the pod names for who names none. Empty if it doesn't, or we may not look at it."""
        try:
            return default_container(self.get_pod(namespace, pod))
        except (Forbidden, NotFound):
            return ""  # what is run there tells what there is to tell

    def state_of(self, namespace: str, pod: str, container: str = "") -> str:
        """How the pod and the container are doing, in words, for a message; empty if that can't be found out."""
        request = Request("get", "pods", namespace, pod, timeout=10.0, tries=1)
        try:
            return describe(self._rest.call(request), container)
        except NotFound:
            return "it doesn't exist any more"
        except KubeferryError:
            return ""

    def list_objects(self, request: Request) -> list[Object]:
        """What a request with the verb list finds."""
        given = {key: value for key, value in request.query.items() if value}
        answer = self._rest.call(replace(request, query=given))
        return [item for item in answer.get("items") or [] if isinstance(item, dict)]


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp") or "")
