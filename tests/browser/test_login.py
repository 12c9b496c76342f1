# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Signing in at a real issuer that the real API server trusts, in a real browser."""

from __future__ import annotations

import asyncio

import pytest
import sample
from browserkit import holds, shoot, texts
from clusterkit import cluster_for_tests
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, running
from fakeissuer import FakeIssuer
from oidckit import free_port, issuer

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def cluster():
    with cluster_for_tests() as made:
        if not made.authentication_file.exists():
            pytest.skip("this cluster's API server can't be told of a test's issuer")
        yield made


async def sign_in(page, user):
    """At the provider's development forms: a name, any password, and consent."""
    await page.fill("input[name=login]", user)
    await page.fill("input[name=password]", "any")
    await page.click("button[type=submit]")
    await page.click("button[type=submit]")
    await page.wait_for_selector("#user button")


@pytest.mark.timeout(180)
async def test_sign_in_see_events_sign_out(cluster, browser, tmp_path):
    port = free_port()
    with issuer(tmp_path, f"http://127.0.0.1:{port}/login/callback") as provider:
        environment = {
            "KUBECONFIG": cluster.kubeconfig,
            "KUBEFERRY_PORT": str(port),
            "KUBEFERRY_OIDC_ISSUER": provider.url,
            "KUBEFERRY_OIDC_CLIENT_ID": "kubeferry",
            "KUBEFERRY_OIDC_CA": str(provider.authority),
            "KUBEFERRY_NAMESPACE": cluster.namespace,
        }
        trust = cluster.trusting(provider.url, provider.authority.read_text())
        await asyncio.to_thread(trust.__enter__)
        try:
            async with running(port=port, **environment) as server:
                await walk_through(cluster, browser, server)
        finally:
            trust.__exit__(None, None, None)


async def walk_through(cluster, browser, server):
    p = sample.Publisher()
    start = p.event(
        "task.started", {"task_id": "t", "name": "Mount the claim", "namespaces": [cluster.namespace]}
    )
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([start])
    await asyncio.sleep(1)  # Kubernetes events count in whole seconds
    await asyncio.to_thread(cluster.event, "FailedMount", "canary: the volume is in use elsewhere", "Warning")

    context = await browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 860})
    page = await context.new_page()
    page.set_default_timeout(10_000)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(f"{request.url} {request.headers}"))
    frames: list[str] = []
    page.on("websocket", lambda ws: ws.on("framesent", lambda data: frames.append(str(data))))
    await page.goto(server.url)
    await page.fill("#token", VIEW_TOKEN)
    await page.keyboard.press("Enter")
    await page.click("#user a")
    await sign_in(page, "reader")
    assert await page.inner_text("#user .name") == "reader"

    await page.click(".run")
    # Beside the task that was running.
    await page.wait_for_selector(".beside div")
    assert "FailedMount" in await page.inner_text(".beside")
    await shoot(page, "light-kubernetes-beside")
    await page.keyboard.press("5")
    await page.wait_for_selector("tbody tr")
    await holds(
        page, "document.querySelector('tbody').textContent.includes('canary: the volume is in use elsewhere')"
    )
    await shoot(page, "light-kubernetes")
    await asyncio.to_thread(cluster.event, "Later", "canary: by itself")
    await holds(page, "document.querySelector('tbody').textContent.includes('canary: by itself')")
    # A namespace that this user may not read.
    await page.fill("input[aria-label='Namespace to watch']", "kube-system")
    await page.keyboard.press("Enter")
    await holds(
        page,
        "document.querySelector('main').textContent.includes('may not read events in the namespace kube-system')",
    )

    # The token is a JWT. It was in no address, header or frame of the browser.
    assert not [entry for entry in [*requests, *frames] if "eyJ" in entry]
    await page.click("#user button")
    await page.wait_for_selector("#user a")
    assert await texts(page, "#user .name") == []
    await context.close()
    await server.stop()
    for path in server.directory.iterdir():
        assert b"eyJ" not in path.read_bytes()


async def test_signing_out_that_fails_is_told(browser):
    async with (
        FakeIssuer().running() as provider,
        running(KUBEFERRY_OIDC_ISSUER=provider.url, KUBEFERRY_OIDC_CLIENT_ID=provider.client_id) as server,
    ):
        context = await browser.new_context()
        page = await context.new_page()
        page.set_default_timeout(10_000)
        await page.goto(server.url)
        await page.fill("#token", VIEW_TOKEN)
        await page.keyboard.press("Enter")
        await page.click("#user a")
        await page.wait_for_selector("#user button")
        await page.route("**/logout", lambda route: route.abort())
        await page.click("#user button")
        await page.wait_for_selector("[data-kind=not-signed-out]")
        assert await page.inner_text("#user .name") == "ada"
        await page.unroute("**/logout")
        await page.click("#user button")
        await page.wait_for_selector("#user a")
        await context.close()
