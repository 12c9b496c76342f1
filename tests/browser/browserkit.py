# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A real Chromium that looks at a real server; screenshots go to build/screenshots."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from eventkit import PUBLISH_TOKEN, VIEW_TOKEN, Client, ServerProcess, running
from playwright.async_api import Browser, BrowserContext, Page, WebSocketRoute, async_playwright

SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
# Debian's Chromium as root, without its conversations with the outside.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


# One browser and one loop for a whole file; the contexts in it are as separate as browsers are.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    program = (
        os.environ.get("KUBEFERRY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    if program is None:
        pytest.skip("there is no Chromium: apt-get install chromium, or KUBEFERRY_CHROMIUM=...")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="module")
async def server() -> AsyncIterator[ServerProcess]:
    async with running() as process:
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def publisher(server: ServerProcess) -> AsyncIterator[Client]:
    async with await Client.connect(server.url, PUBLISH_TOKEN) as client:
        yield client


class Look:
    """Opens pages that are signed in with the view token, and fails the test for anything in their consoles."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.contexts: list[BrowserContext] = []
        self._socket: WebSocketRoute | None = None

    async def page(
        self,
        url: str,
        path: str = "/",
        *,
        scheme: str = "light",
        width: int = 1280,
        height: int = 860,
        between: bool = False,
        **more: object,
    ) -> Page:
        context = await self.browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": height}, **more
        )
        self.contexts.append(context)
        page = await context.new_page()
        page.set_default_timeout(8000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.faults.append(message.text))
        page.on("request", lambda request: self.requests.append(request.url))
        if between:
            await page.route_web_socket("**/ws", self._join)
        await page.goto(url + path)
        await page.fill("#token", VIEW_TOKEN)
        await page.keyboard.press("Enter")
        await page.wait_for_selector("#link[data-state=live]")
        return page

    def _join(self, socket: WebSocketRoute) -> None:
        """Let all pass between page and server, and keep the page's side."""
        socket.connect_to_server()
        self._socket = socket

    def tell_kubernetes_events(self, events: list[dict[str, object]]) -> None:
        """What the server tells the page of a namespace's events; nobody else may."""
        self.tell({"type": "EVENTS", "events": events})

    def tell(self, message: dict[str, object]) -> None:
        """What the server might tell the page."""
        assert self._socket is not None
        self._socket.send(json.dumps(message))


@pytest_asyncio.fixture(loop_scope="module")
async def look(browser: Browser) -> AsyncIterator[Look]:
    made = Look(browser)
    yield made
    for context in made.contexts:
        await context.close()
    # A server that was stopped on purpose is a fault of the network, and shows as one.
    assert [
        fault for fault in made.faults if "ERR_CONNECTION" not in fault and "WebSocket" not in fault
    ] == []


async def shoot(page: Page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SHOTS / f"{name}.png")


async def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in await page.locator(selector).all_inner_texts()]


async def holds(page: Page, expression: str, seconds: float = 8.0) -> None:
    """Wait until an expression holds. Playwright's wait_for_function would do it where the page's policy forbids it."""
    for _attempt in range(int(seconds * 20)):
        if await page.evaluate(expression):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never held: {expression}")
