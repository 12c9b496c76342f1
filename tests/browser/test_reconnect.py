# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The page after a break: what it then shows is what a reload would show."""

from __future__ import annotations

import signal

import pytest
import sample
from browserkit import holds, shoot, texts
from eventkit import PUBLISH_TOKEN, Client, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

VIEWS = ("timeline", "matrix", "transfers", "parity")
LIVE = "#link[data-state=live]"
# What is seen of the page but for what changes with the time of day.
SEEN = """() => {
  const shown = (selector) => [...document.querySelectorAll(selector)].filter((element) => element.checkVisibility());
  const part = (selector) => shown(selector).map((element) => element.innerText);
  return {
    title: document.title, status: part(".head > span > .badge"), tiles: part(".tile"), tabs: part(".tabs a"),
    facts: part(".facts span").filter((fact) => !fact.startsWith("for ")),
    body: part(".tabs ~ div > *"),
    cells: [...document.querySelectorAll(".cell[id]")].map((cell) => cell.ariaLabel),
    bars: [...document.querySelectorAll(".progress")].map((bar) => [bar.ariaLabel, bar.ariaValueNow, bar.dataset.s]),
    runs: part("li > .run .title, li > .run .badge, li > .run .bars"),
  };
}"""


async def killed(server, page):
    await server.stop(signal.SIGKILL)
    await page.wait_for_selector("#link[data-state=reconnecting]")


async def forgets(server, page):
    """The server is killed, and comes back with nothing."""
    await killed(server, page)
    for path in server.directory.glob("history.db*"):
        path.unlink()
    await server.start()


async def publish(server, events):
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        return await publisher.publish(events)


async def looking(look, server, run):
    """A page that shows the list of runs, and one for each view of a run."""
    pages = [await look.page(server.url)]
    pages += [await look.page(server.url, f"/runs/{run}/{view}") for view in VIEWS]
    for page in pages:
        await page.wait_for_selector(".run, .head > span > .badge")
    return pages


async def as_a_reload_shows_it(pages, tasks):
    """Compare what pages show of a run that is over and has so many tasks with what they show anew."""
    for page in pages:
        await page.wait_for_selector(".badge[data-s=failed]", timeout=30_000)
        # The list of runs may have another one that failed.
        await holds(page, "!document.querySelector('main .badge[data-s=running]')")
        await holds(page, f"document.querySelector('main').innerText.includes('{tasks} tasks')")
        shown = await page.evaluate(SEEN)
        await page.reload()
        await page.wait_for_selector(".badge[data-s=failed]")
        assert shown == await page.evaluate(SEEN), page.url


async def test_the_server_forgot_a_run_that_goes_on(server, look):
    p = sample.Publisher()
    before = [p.started(), *p.task("t1", "Before", {"a": "ok"}), *p.task("t2", "Amid", {"a": "changed"})]
    await publish(server, before)
    page = await look.page(server.url, f"/runs/{p.run}")
    await page.wait_for_selector(".step")
    await forgets(server, page)
    await page.wait_for_selector("#link[data-state=asking]", timeout=30_000)
    assert await page.inner_text("#link") == "asking again …"
    said = await page.inner_text("#notices")
    assert "The server has no such run now" in said
    assert "What you see is the last that was known" in said
    assert await texts(page, ".step .link-like") == ["Before", "Amid"]
    await shoot(page, "reconnect-unknown")
    # The publisher comes back later, without what it needn't keep any more.
    lost = {"reason": "server_lost_history", "count": 4, "first_pubseq": 1, "last_pubseq": 4}
    gap = {**before[3], "type": "kubeferry.v1.gap", "data": lost}
    await publish(server, [gap, *before[4:], *p.task("t3", "After", {"a": "ok"})])
    await page.wait_for_selector(LIVE)
    assert await texts(page, ".step .link-like") == ["Amid", "After"]
    assert await texts(page, ".gap-row") == ["Gap: events are missing (4 events)"]
    said = await page.inner_text("#notices")
    assert said.startswith(
        "Gap: the server's history is another one. What it had of this run before may be missing."
    )
    await shoot(page, "reconnect-known-again")
    await publish(server, [p.finished("failed")])
    await page.wait_for_selector(".badge[data-s=failed]")


async def test_every_view_after_a_restart(server, look):
    p = sample.Publisher()
    events = [*sample.copy_run(p), p.finished("failed")]
    await publish(server, events[:12])
    pages = await looking(look, server, p.run)
    await server.stop(signal.SIGKILL)
    await server.start()
    await publish(server, events[12:])
    await as_a_reload_shows_it(pages, 6)


async def test_every_view_of_a_run_that_the_server_forgot(server, look):
    p = sample.Publisher()
    events = [*sample.copy_run(p), p.finished("failed")]
    await publish(server, events[:20])
    pages = await looking(look, server, p.run)
    await forgets(server, pages[0])
    for page in pages[1:]:
        await page.wait_for_selector("#link[data-state=asking]", timeout=30_000)
    # The newest first, as of a publisher that hasn't heard yet that the others are gone.
    await publish(server, events[18:-1])
    await pages[1].wait_for_selector(".gap-row")
    await publish(server, [*events[:18], events[-1]])
    await as_a_reload_shows_it(pages, 6)


async def test_every_view_of_another_history(server, look):
    p = sample.Publisher()
    events = [*sample.copy_run(p), *p.task("t7", "Tell", {"localhost": "ok"}), p.finished("failed")]
    await publish(server, events[:-1])
    pages = await looking(look, server, p.run)
    other = server.directory / "other.db"
    async with running(KUBEFERRY_HISTORY=str(other)) as elsewhere:
        # Its reports and results are other ones in the same places, and it has another run as well.
        await publish(elsewhere, sample.wide_run(3, 2))
        await publish(elsewhere, [events[0], *events[15:-4]])
    await killed(server, pages[0])
    for path in server.directory.glob("history.db*"):
        path.unlink()
    other.rename(server.history)
    await server.start()
    for page in pages[1:]:
        await holds(page, "/history is another one/.test(document.querySelector('#notices').textContent)", 30)
    await shoot(pages[1], "reconnect-another-history")
    await publish(server, events[-1:])
    await as_a_reload_shows_it(pages, 3)


async def test_a_token_that_may_not_look_is_refused(server, browser):
    page = await browser.new_page()
    await page.goto(server.url)
    await page.fill("#token", PUBLISH_TOKEN)
    await page.keyboard.press("Enter")
    await page.wait_for_selector("[role=alert]")
    assert await page.inner_text("[role=alert]") == "The token of this connection isn't one to view with."
    await page.close()


async def test_a_run_is_shown_once_the_server_has_it(server, publisher, look):
    p = sample.Publisher()
    page = await look.page(server.url)
    await page.goto(f"{server.url}/runs/{p.run}")
    await page.wait_for_selector("#link[data-state=asking]")
    assert "No such run" in await page.inner_text("main")
    assert await page.locator("main :is(.card, input):visible").count() == 0
    await publisher.publish([p.started(), *p.task("t", "Talk", {"a": "ok"})])
    await page.wait_for_selector(".step")
    await page.wait_for_selector(LIVE)
    assert await page.inner_text("#notices") == ""


async def test_the_history_was_replaced_under_the_server(server, publisher, look):
    """It then shows nothing of a run until it has looked for it, which it does when it is asked."""
    p = sample.Publisher()
    await publisher.publish([p.started(), *p.task("t", "Talk", {"a": "ok"})])
    page = await look.page(server.url, f"/runs/{p.run}", between=True)
    await page.wait_for_selector(".step")
    state = {
        name: []
        for name in ("plays", "tasks", "hosts", "progress", "parity", "problems", "gaps", "namespaces")
    }
    state["summary"] = {"run": p.run, "status": "running", "counts": {}}
    about = {"type": "SNAPSHOT", "run": p.run, "epoch": "another", "seq": 0, "resync": "epoch_changed"}
    look.tell({**about, "state": state})
    await page.wait_for_selector("#link[data-state=asking]")
    assert "The server has no such run now" in await page.inner_text("#notices")
    assert await texts(page, ".step .link-like") == ["Talk"]
    await page.wait_for_selector(LIVE)
    await publisher.publish([*p.task("t2", "Tell", {"a": "ok"}), p.finished("failed")])
    await page.wait_for_selector(".badge[data-s=failed]")
    assert await texts(page, ".step .link-like") == ["Talk", "Tell"]


async def test_a_thousand_hosts_after_the_server_forgot_them(server, look):
    p = sample.Publisher()
    events = sample.wide_run(1000, 20, p)
    await publish(server, events[:-1])
    page = await look.page(server.url, f"/runs/{p.run}/matrix")
    await page.wait_for_selector(".cell[id]")
    memory = await page.context.new_cdp_session(page)
    await memory.send("HeapProfiler.enable")
    used = []
    for _time in range(3):
        await forgets(server, page)
        await page.wait_for_selector("#link[data-state=asking]", timeout=30_000)
        await publish(server, events[:-1])
        await page.wait_for_selector(LIVE)
        await holds(page, "document.querySelector('.tile b').textContent === '13,269'", 60)
        await memory.send("HeapProfiler.collectGarbage")
        used.append((await memory.send("Runtime.getHeapUsage"))["usedSize"])
    assert used[-1] < used[0] * 1.2
    assert await page.locator(".cell[id]").count() < 3000
    await shoot(page, "reconnect-thousand")
