# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The page, as a person uses it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sample
from browserkit import holds, shoot, texts
from eventkit import PUBLISH_TOKEN, Client
from kubeferry_events.run_state import RunState

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMPARE = Path(__file__).parent / "compare.js"
# Whatever can be used and says nothing of itself.
NAMELESS = """() => [...document.querySelectorAll("button, a, input, [role=grid], [role=gridcell], [role=progressbar]")]
  .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length))
  .map((element) => element.outerHTML)"""
# Texts whose contrast with what they stand on is below 4.5 (WCAG 2.2, 1.4.3). Colours are mixed by drawing them.
PALE = """() => {
  const paint = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const light = (layers) => {
    for (const layer of layers) { paint.fillStyle = layer; paint.fillRect(0, 0, 1, 1); }
    const parts = [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255);
    const [r, g, b] = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const pale = new Set();
  for (const element of document.querySelectorAll("main *, header *")) {
    const says = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!says || !element.checkVisibility()) continue;
    const below = [];
    for (let at = element; at; at = at.parentElement) below.unshift(getComputedStyle(at).backgroundColor);
    const [on, text] = [light(below), light([...below, getComputedStyle(element).color])];
    const contrast = (Math.max(on, text) + 0.05) / (Math.min(on, text) + 0.05);
    if (contrast < 4.5) pale.add(`${element.className} ${element.textContent} ${contrast.toFixed(2)}`);
  }
  return [...pale];
}"""


async def test_a_run_appears_and_changes_by_itself(server, publisher, look):
    page = await look.page(server.url)
    await holds(page, "document.querySelector('main').textContent.includes('No runs yet')")
    p = sample.Publisher()
    await publisher.publish(
        [p.started("site.yml"), *p.task("t1", "First task", {"web1": "ok", "web2": "changed"})]
    )
    await page.click(".run")
    await page.wait_for_selector(".step")
    assert await texts(page, ".step .link-like") == ["First task"]
    assert await texts(page, ".mark") == ["1 ok", "1 changed"]
    await publisher.publish(
        [*p.task("t2", "Second task", {"web1": "failed", "web2": "ok"}), p.finished("failed")]
    )
    await page.wait_for_selector(".badge[data-s=failed]")
    assert await texts(page, ".step .link-like") == ["First task", "Second task"]
    assert await page.inner_text(".problems li .link-like") == "Second task · web1"
    await page.go_back()
    await page.wait_for_selector(".run")


@pytest.mark.parametrize(
    ("name", "scheme", "width"), [("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 390)]
)
async def test_every_view_of_a_copy(server, publisher, look, name, scheme, width):
    events = sample.copy_run()
    await publisher.publish(events)
    page = await look.page(server.url, scheme=scheme, width=width)
    await page.wait_for_selector(".run")
    await shoot(page, f"{name}-runs")
    await page.click(".run")
    await page.wait_for_selector(".step")
    await shoot(page, f"{name}-timeline")
    assert len(await texts(page, ".step")) == 6
    await page.keyboard.press("3")
    await page.wait_for_selector(".transfer")
    assert await page.get_attribute(".progress", "role") == "progressbar"
    assert "1,204 files" in await page.inner_text(".transfers")
    await shoot(page, f"{name}-transfers")
    await page.keyboard.press("4")
    await page.wait_for_selector(".report")
    assert await texts(page, "td.mono") == ["a/51", "a/11", "10"]
    assert (await texts(page, ".report .badge"))[:3] == [
        "✓ every byte arrived",
        "✓ every byte arrived",
        "✕ 2 mismatches",
    ]
    assert "sha256 · by tar · route direct" in await page.inner_text(".report")
    await shoot(page, f"{name}-parity")
    # Nothing is wider than the screen, and every view can be seen to be there.
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert await page.evaluate(
        "(({scrollWidth, clientWidth}) => scrollWidth <= clientWidth)(document.querySelector('.tabs'))"
    )


async def test_progress_moves(server, publisher, look):
    p = sample.Publisher()
    about = {
        "host": "h",
        "label": "pod → staging",
        "pid": 7,
        "phase": "move",
        "bytes_total": 1000,
        "files_total": 10,
    }
    await publisher.publish(
        [
            p.started(),
            p.event(
                "progress",
                {**about, "bytes": 250, "files": 2, "bytes_per_second": 2048, "seconds_left": 65.0},
            ),
        ]
    )
    page = await look.page(server.url, f"/runs/{p.run}/transfers")
    await page.wait_for_selector('.progress[aria-valuenow="25"]')
    numbers = await page.inner_text(".numbers")
    for part in ("250 B of 1000 B (25 %)", "2 of 10 files", "2.0 KiB/s", "1 min 5 s left"):
        assert part in numbers
    await publisher.publish([p.event("progress", {**about, "bytes": 900, "files": 9})])
    await page.wait_for_selector('.progress[aria-valuenow="90"]')
    await publisher.publish([p.event("progress", {**about, "phase": "end", "bytes": 0})])
    await page.wait_for_selector(".progress[data-s=ok]")


async def test_a_thousand_hosts(server, publisher, look):
    events = sample.wide_run(1000, 30)
    run = events[0]["runid"]
    await publisher.publish(events)
    page = await look.page(server.url, f"/runs/{run}/matrix")
    await page.wait_for_selector(".cell[id]")
    assert await page.locator(".cell[id]").count() < 3000  # of thirty thousand
    assert await page.get_attribute(".matrix", "aria-rowcount") == "1001"
    await page.focus(".matrix")
    for key in ("ArrowRight", "ArrowDown", "ArrowDown"):
        await page.keyboard.press(key)
    assert (await page.inner_text(".reading")).startswith("node0002.example · 2. Step 2 of the rollout · ")
    await shoot(page, "light-matrix")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("dialog .badge")
    assert "node0002.example" in await page.inner_text("#dialog-title")
    await shoot(page, "light-result")
    await page.keyboard.press("Escape")
    for _attempt in range(30):
        await page.keyboard.press("PageDown")
        assert await page.locator(".cell[id]").count() < 3000
    assert "node0002.example" not in await page.inner_text(".reading")
    await page.keyboard.press("End")
    assert "30. Step 30" in await page.inner_text(".reading")
    await page.fill("[data-search]", "node0999")
    await holds(page, "document.querySelector('.matrix').getAttribute('aria-rowcount') === '2'")
    await page.fill("[data-search]", "")
    await page.click("text=Only hosts with problems")
    await holds(page, "Number(document.querySelector('.matrix').getAttribute('aria-rowcount')) < 400")


async def test_the_matrix_fits_a_phone(server, publisher, look):
    events = sample.wide_run(60, 30)
    await publisher.publish(events)
    page = await look.page(
        server.url, f"/runs/{events[0]['runid']}/matrix", width=390, height=800, scheme="dark"
    )
    await page.wait_for_selector(".cell[id]")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await shoot(page, "phone-matrix")


async def test_more_problems_than_are_kept(server, publisher, look):
    p = sample.Publisher()
    results = [p.result("t", "Task", f"h{n}", "unreachable", msg="away") for n in range(200)]
    await publisher.publish([p.started(), *results[:199]])
    page = await look.page(server.url, f"/runs/{p.run}", width=360, height=640)
    await holds(
        page, "document.querySelector('.problems h2')?.textContent === '199 problems, the newest first'"
    )
    await publisher.publish([results[199]])
    said = "document.querySelector('.problems h2').textContent === 'At least 200 problems, the newest first'"
    await holds(page, said)
    # The longest word of the numbers above stays in its card.
    within = "(tile) => { const words = document.createRange(); words.selectNodeContents(tile);"
    within += " return words.getBoundingClientRect().right <= tile.getBoundingClientRect().right - 8; }"
    assert await page.evaluate(f"[...document.querySelectorAll('.tile')].every({within})")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_a_live_run_of_more_tasks_than_are_listed(server, publisher, look):
    p = sample.Publisher()
    await publisher.publish([p.started()])
    page = await look.page(server.url, f"/runs/{p.run}")
    await page.wait_for_selector(".empty strong")
    events = [event for n in range(5001) for event in p.task(f"t{n}", f"Task {n}", {"web": "ok"})]
    events += [*p.task("last", "The last one", {"web": "failed", "db": "ok"}), p.finished("failed")]
    for at in range(0, len(events), 900):
        await publisher.publish(events[at : at + 900])
    said = "Only the first 5,000 of 5,002 tasks are shown."
    # The page keeps up.
    await holds(page, f"document.querySelector('.timeline').textContent.includes('{said}')", 15)
    await page.wait_for_selector(".badge[data-s=failed]")
    assert await page.evaluate("document.querySelectorAll('.step').length") == 5000
    assert "5,002 tasks, the first 5,000 shown" in await page.inner_text(".facts")
    drawn = "[...document.querySelectorAll('.step .marks')].every((marks) => marks.textContent === '1 ok')"
    assert await page.evaluate(drawn)
    # Rows out of sight are left alone until they come into sight.
    assert (
        await page.evaluate("[...document.querySelectorAll('.step')].filter((step) => step.skipped).length")
        > 4900
    )
    middle = "document.querySelectorAll('.step')[2500]"
    await page.evaluate(f"{middle}.scrollIntoView()")
    await holds(page, f"Math.abs(parseFloat({middle}.querySelector('.gantt i').style.left) - 50) < 2")
    # A task that isn't listed has results nevertheless.
    await page.click(".problems li .link-like")
    await page.wait_for_selector("dialog section.card")
    assert await page.inner_text("#dialog-title") == "The last one · web"
    assert await texts(page, "dialog section.card .badge") == ["failed"]
    await page.reload()
    await holds(page, f"document.querySelector('.timeline')?.textContent.includes('{said}')")


async def test_the_server_is_killed_and_comes_back(server, look):
    p = sample.Publisher()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([p.started(), *p.task("t1", "Before", {"a": "ok"})])
    page = await look.page(server.url, f"/runs/{p.run}")
    await page.wait_for_selector(".step")
    await server.stop(signal.SIGKILL)
    await page.wait_for_selector("#link[data-state=reconnecting]")
    assert "reconnecting" in await page.inner_text("#notices")
    await shoot(page, "light-reconnecting")
    await server.start()
    async with await Client.connect(server.url, PUBLISH_TOKEN) as publisher:
        await publisher.publish([*p.task("t2", "After", {"a": "ok"}), p.finished()])
    await page.wait_for_selector("#link[data-state=live]", timeout=30_000)
    await page.wait_for_selector(".badge[data-s=ok]")
    assert await texts(page, ".step .link-like") == ["Before", "After"]
    assert await page.inner_text("#notices") == ""


async def test_a_damaged_run_is_said_and_not_asked_for_again(server, publisher, look):
    events = sample.copy_run()
    await publisher.publish(events)
    await server.stop()
    with contextlib.closing(sqlite3.connect(server.history)) as database:
        database.execute("UPDATE events SET body = '{' WHERE run = ?", [events[0]["runid"]])
        database.commit()
    await server.start()
    page = await look.page(server.url, f"/runs/{events[0]['runid']}")
    await page.wait_for_selector("[data-kind=unfollowed]")
    assert "This run is damaged in the server's history" in await page.inner_text("[data-kind=unfollowed]")
    assert "It can't be shown." in await page.inner_text("main")
    told = server.log.read_text().count("can't be read")
    await page.wait_for_timeout(5_000)
    assert await page.inner_text("#link-text") == "live"
    assert server.log.read_text().count("can't be read") == told


async def test_the_server_is_frozen_and_goes_on(server, publisher, look):
    """The page's clock is put forward here; the server's silence is real."""
    p = sample.Publisher()
    await publisher.publish([p.started(), *p.task("t1", "Before", {"a": "ok"})])
    page = await look.page(server.url, f"/runs/{p.run}")
    answers: asyncio.Queue[str] = asyncio.Queue()
    page.on("websocket", lambda socket: socket.on("framereceived", answers.put_nowait))
    await page.clock.install()
    await page.reload()
    await page.wait_for_selector(".step")
    while not answers.empty():
        answers.get_nowait()
    for _quiet in range(3):
        await page.clock.fast_forward(15_000)
        assert json.loads(await asyncio.wait_for(answers.get(), 8))["type"] == "WELCOME"
    assert await page.inner_text("#link") == "live"
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await page.clock.fast_forward(15_000)
        assert await page.inner_text("#link") == "live"
        await page.clock.fast_forward(10_000)
        await page.wait_for_selector("#link[data-state=reconnecting]")
        assert "reconnecting" in await page.inner_text("#notices")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await publisher.publish([*p.task("t2", "After", {"a": "ok"}), p.finished()])
    await page.wait_for_selector("#link[data-state=live]")
    await page.wait_for_selector(".badge[data-s=ok]")
    assert await texts(page, ".step .link-like") == ["Before", "After"]
    assert await page.inner_text("#notices") == ""


async def test_a_gap_is_said(server, publisher, look):
    p = sample.Publisher()
    started = p.started()
    p.pubseq += 6
    about = {"reason": "spool_full", "message": "The spool was full."}
    gap = p.event("gap", {**about, "count": 7, "first_pubseq": 2, "last_pubseq": 8})
    await publisher.publish([started, gap])
    page = await look.page(server.url, f"/runs/{p.run}")
    await page.wait_for_selector(".gap-row")
    assert await page.inner_text(".gap-row") == "Gap: The spool was full. (7 events)"
    p.pubseq += 3
    await publisher.publish(p.task("t", "Task", {"a": "ok"}))
    await page.reload()
    await holds(
        page,
        "[...document.querySelectorAll('.gap-row')].some((row) => row.textContent.includes('9\\u201311'))",
    )


# What the schema lets through where it leaves a value open.
ODD = [
    None,
    5,
    -1.5,
    True,
    "",
    "x",
    [],
    [None, 5],
    {},
    {"toString": 5, "valueOf": 5, "length": -1, "kind": {}},
]


def odd_objects():
    """Kubernetes events in each of whose places stands what nobody expects there."""
    places = [
        "metadata", "metadata.uid", "metadata.name", "metadata.resourceVersion", "metadata.creationTimestamp",
        "type", "reason", "message", "note", "count", "series", "series.count", "series.lastObservedTime",
        "involvedObject", "involvedObject.kind", "involvedObject.name", "regarding",
        "lastTimestamp", "eventTime", "firstTimestamp",
    ]  # fmt: skip
    for place in places:
        name, _dot, inner = place.partition(".")
        for at, odd in enumerate(ODD):
            usual = {"metadata": {"uid": f"{place}-{at}"}, "message": "usual"}
            yield usual | {name: {inner: odd} if inner else odd}


async def test_odd_values_stop_nothing(server, publisher, look):
    p = sample.Publisher()
    await publisher.publish([p.started()])
    page = await look.page(server.url, f"/runs/{p.run}/parity", between=True)
    await page.wait_for_selector(".tabs [data-tab=parity]")
    cluster = sample.Publisher()
    told = [cluster.event("k8s.event", {"namespace": "n", "object": each}) for each in odd_objects()]
    differs = [{"mode": odd} for odd in ODD] + [{"uid": [odd, odd]} for odd in ODD] + [{}]
    owned = [{"path": f"a/{at}", "differs": each} for at, each in enumerate(differs)]
    report = sample.parity_report(3, missing=["gone"], metadata_differences=owned)
    look.tell_kubernetes_events(told)
    compared = p.result("t", "Compare", "h", "failed", msg="as it should", parity=report)
    await publisher.publish([compared, p.finished("failed")])
    await page.wait_for_selector(".badge[data-s=failed]")
    assert len(await texts(page, "td.mono")) == len(differs) + 1
    assert (await texts(page, "td.quiet"))[:3] == ["", "mode", "mode"]
    await shoot(page, "odd-parity")
    await page.keyboard.press("5")
    # Fewer than were told: some have no identity of their own.
    await page.wait_for_selector("tbody tr")
    assert await page.locator("tbody tr").count() > 150
    await shoot(page, "odd-kubernetes")
    await page.keyboard.press("1")
    await page.wait_for_selector(".problems li")
    assert await page.inner_text("#notices") == ""


# Where a word that is all Latin is written from right to left.
TURNED = """(words) => {
  const turned = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    const left = (at) => {
      const range = document.createRange();
      range.setStart(text, at);
      range.setEnd(text, at + 1);
      return range.getBoundingClientRect().left;
    };
    for (const word of words) {
      const at = text.data.indexOf(word);
      if (at >= 0 && text.parentElement.checkVisibility() && left(at) > left(at + 1)) turned.push(text.data);
    }
  }
  return turned;
}"""


async def test_no_name_turns_its_neighbours_around(server, publisher, look):
    def turning(name):
        return f"{name}\u2069\u202e\u200b\u05d0"

    def told_of(name):
        return name.replace("\u2069\u202e\u200b", r"\u2069\u202e\u200b")

    names = [turning(f"name{at}") for at in range(20)]
    p = sample.Publisher()
    at = {"task_id": "t", "host": names[0], "task": names[1], "action": names[2], "item": names[3]}
    task = {"task_id": "t", "play_id": "p", "name": names[1], "action": names[2], "role": names[4]}
    differs = {names[15]: [names[16], names[17]]}
    report = sample.parity_report(
        3, missing=[names[5]], metadata_differences=[{"path": "x", "differs": differs}]
    )
    report |= {"source": names[6], "target": names[7], "checksum": names[8], "transport": names[9]}
    told = {
        "metadata": {"uid": "u"}, "reason": names[10], "message": names[11],
        "involvedObject": {"kind": "Pod", "name": names[12]}, "lastTimestamp": f"{p.at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }  # fmt: skip
    await publisher.publish([p.started(names[13], user=names[14], controller=names[18], job=names[19])])
    page = await look.page(server.url, between=True)
    await page.wait_for_selector(".run")
    assert await page.evaluate(TURNED, ["name", "job", "host", "task"]) == []
    await shoot(page, "turning-runs")
    await page.click(".run")
    await page.wait_for_selector(".tabs a")
    await publisher.publish(
        [
            p.event("play.started", {"play_id": "p", "name": names[2], "batch": 3}),
            p.event("task.started", task),
            p.event("item.failed", {**at, "msg": names[5], "parity": report}),
            p.event("host.failed", {**at, "msg": names[5], "delegated_to": names[9]}),
            p.event("progress", {**at, "label": names[6], "phase": "move", "bytes": 5, "bytes_total": 10}),
            p.event("gap", {"reason": "other", "message": names[7], "count": 7}),
            p.event("task.finished", {"task_id": "t", "duration": 2.0}),
        ]
    )
    look.tell_kubernetes_events(
        [sample.Publisher().event("k8s.event", {"namespace": names[8], "object": told})]
    )
    await page.wait_for_selector(".gap-row")
    words = ["name", "batch", "role", "failed", "events", " of ", "Pod"]
    for key, selector in zip("12345", (".step", ".cell", ".transfer", ".report", "tbody tr"), strict=True):
        await page.keyboard.press(key)
        await page.wait_for_selector(selector)
        assert await page.evaluate(TURNED, words) == [], selector
        await shoot(page, f"turning-{key}")
    assert await page.title() == f"{told_of(names[13])} · kubeferry"
    await page.keyboard.press("1")
    await page.click(".problems button")
    await page.wait_for_selector("dialog section")
    assert await page.evaluate(TURNED, words) == []
    assert told_of(names[0]) in await page.inner_text("dialog section b >> nth=0")
    assert not set("\u2069\u202e\u200b") & set(await page.content())
    await shoot(page, "turning-result")


async def test_one_event_that_cannot_be_shown_is_said(server, publisher, look):
    p = sample.Publisher()
    await publisher.publish([p.started()])
    page = await look.page(server.url)

    def worse(socket):
        upstream = socket.connect_to_server()

        def pass_on(frame):
            message = json.loads(frame)
            if message["type"] == "EVENTS":
                before = message["events"][0]["seq"] - 0.5
                broken = {"type": "kubeferry.v1.host.ok", "runid": p.run, "seq": before}
                message["events"] = [None, broken, *message["events"]]
            socket.send(json.dumps(message))

        upstream.on_message(pass_on)

    await page.route_web_socket("**/ws", worse)
    await page.goto(f"{server.url}/runs/{p.run}")
    await page.wait_for_selector(".tabs [data-tab=parity]")
    await publisher.publish([*p.task("t", "Task", {"h": "failed"}), p.finished("failed")])
    await page.wait_for_selector(".badge[data-s=failed]")
    assert await page.inner_text(".problems li .link-like") == "Task · h"
    assert "2 events could not be shown" in await page.inner_text("#notices")
    await shoot(page, "unshown")
    await page.keyboard.press("g")
    await page.wait_for_selector(".run")
    assert await page.inner_text("#notices") == ""


async def test_what_came_over_the_wire_is_text(server, publisher, look):
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    p = sample.Publisher()
    result = {
        "msg": evil,
        "stdout": evil,
        "result": {evil: evil},
        "parity": sample.parity_report(1, missing=[evil]),
    }
    progress = p.event("progress", {"label": evil, "phase": evil, "host": evil, "bytes": 1})
    await publisher.publish(
        [
            p.started(evil, user=evil),
            *p.task("t", evil, {evil: "ok"}),
            progress,
            p.result("t", evil, evil, "failed", **result),
        ]
    )
    page = await look.page(server.url)
    await page.click(".run")
    await page.wait_for_selector(".step")
    for key in "2345":
        await page.keyboard.press(key)
    await page.keyboard.press("1")
    await page.click(".step .link-like")
    await page.wait_for_selector("dialog pre")
    assert await page.locator("main img, dialog img, main script").count() == 0
    assert evil in await page.inner_text("h1")
    assert evil in await page.inner_text("dialog pre >> nth=0")


async def test_nothing_is_fetched_from_elsewhere(server, publisher, look):
    await publisher.publish(sample.copy_run())
    page = await look.page(server.url)
    await page.click(".run")
    await page.wait_for_selector(".step")
    assert {urlsplit(url).netloc for url in look.requests} == {urlsplit(server.url).netloc}
    assert all("token" not in url for url in look.requests)


async def test_search_filter_theme_and_keys(server, publisher, look):
    for playbook, status in (("alpha.yml", "ok"), ("beta.yml", "failed")):
        p = sample.Publisher()
        await publisher.publish([p.started(playbook), p.finished(status)])
    page = await look.page(server.url)
    await holds(page, "document.querySelectorAll('.run').length === 2")
    await page.keyboard.press("/")
    await page.keyboard.type("alpha")
    assert await texts(page, ".run .title") == ["alpha.yml"]
    await page.fill("[data-search]", "")
    await page.click("button:text('Failed')")
    assert await texts(page, ".run .title") == ["beta.yml"]
    await page.keyboard.press("t")
    dark = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    await page.keyboard.press("t")
    assert await page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    await page.keyboard.press("?")
    assert await page.inner_text("#dialog-title") == "Keys"
    await page.keyboard.press("Escape")
    # By keyboard alone: skip link first, and every control can be reached.
    await page.reload()
    await page.wait_for_selector(".run")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.className") == "skip"


async def test_a_wrong_token_is_said(server, browser):
    page = await browser.new_page()
    await page.goto(server.url)
    await page.fill("#token", "wrong token")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("[role=alert]")
    assert "neither" in await page.inner_text("[role=alert]")
    await shoot(page, "light-hello")


async def test_what_a_screen_reader_needs(server, publisher, look):
    events = sample.copy_run()
    await publisher.publish(events)
    page = await look.page(server.url, f"/runs/{events[0]['runid']}")
    await page.wait_for_selector(".step")
    for key in "12345":
        await page.keyboard.press(key)
        await page.wait_for_timeout(80)
        assert await page.evaluate(NAMELESS) == []
    assert await page.get_attribute("html", "lang") == "en"
    assert await page.locator("h1").count() == 1
    assert await page.locator("[aria-live]").count() >= 2


async def test_colours_and_grids_are_for_everybody(server, publisher, look):
    events = sample.copy_run()
    await publisher.publish([*sample.wide_run(30, 8), *events])
    for scheme in ("light", "dark"):
        page = await look.page(server.url, f"/runs/{events[0]['runid']}", scheme=scheme)
        await page.wait_for_selector(".step")
        assert await page.evaluate(PALE) == []
        for key in "345":
            await page.keyboard.press(key)
            await page.wait_for_timeout(80)
            assert await page.evaluate(PALE) == []
        await page.goto(f"{server.url}/runs/{events[0]['runid']}/matrix")
        await page.wait_for_selector(".cell[id]")
        assert await page.evaluate(PALE) == []
        assert await page.locator("[role=row] > [role=gridcell]").count() > 0
        assert await page.locator("[role=gridcell]").count() == await page.locator(".cell[id]").count()
        assert await page.locator("[role=row] > [role=rowheader]").count() == 1
        assert await page.locator("[role=row] > [role=columnheader]").count() == 7


# The colours that bars, the dot and the tabs' borders have, each beside what it has to differ from.
FORCED = """(selector) => [...document.querySelectorAll(selector)].map((element) => {
  const [own, around] = [element, element.parentElement].map((each) => getComputedStyle(each));
  return [own.backgroundColor, around.backgroundColor, own.borderBottomColor];
})"""


async def test_forced_colours_leave_bars_and_the_open_tab(server, publisher, look):
    await publisher.publish(sample.copy_run())
    page = await look.page(server.url)
    await page.emulate_media(forced_colors="active")
    await page.click(".run")
    for selector in ("main .gantt i", "#link .dot"):
        await page.wait_for_selector(selector)
        bars = await page.evaluate(FORCED, selector)
        assert bars
        assert all(own != around for own, around, _border in bars)
    ground = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    borders = [border for _own, _around, border in await page.evaluate(FORCED, ".tabs a")]
    assert [border == ground for border in borders] == [False, True, True, True, True]
    await page.keyboard.press("3")
    await page.wait_for_selector(".progress i")
    assert all(own != around for own, around, _border in await page.evaluate(FORCED, ".progress i"))


async def test_how_a_transfer_ended(server, publisher, look):
    p = sample.Publisher()
    events = [p.started()]
    about = {"pid": 7, "files": 1, "files_total": 2, "bytes": 500, "bytes_total": 1000, "phase": "end"}
    owned = [{"path": "10", "differs": {"uid": ["1001", "0"]}}]
    reports = {"good": sample.parity_report(1204), "bad": sample.parity_report(3, metadata_differences=owned)}
    for host, state in (("good", "ok"), ("bad", "failed")):
        events += [
            p.event("task.started", {"task_id": host, "name": f"Copy {host}", "action": "a.b.pvc_copy"})
        ]
        events += [p.event("progress", {**about, "label": "", "host": host, "task_id": host})]
        events += [p.result(host, f"Copy {host}", host, state, parity=reports[host])]
    await publisher.publish(events)
    page = await look.page(server.url, f"/runs/{p.run}/transfers")
    await page.wait_for_selector(".transfer")
    shown = dict(
        zip(await texts(page, ".transfer .top b"), await texts(page, ".transfer .badge"), strict=True)
    )
    assert shown == {"Copy good": "done", "Copy bad": "failed"}
    assert sorted(
        await page.locator(".progress").evaluate_all("all => all.map((one) => one.ariaValueNow)")
    ) == ["100", "50"]
    text = await page.inner_text(".transfers")
    assert "1,204 paths match" in text
    assert "3 paths match, 1 more but for owner, mode or time" in text


async def test_the_page_and_the_server_see_the_same(server, publisher, look):
    """The page's model.js and the server's run_state.py are two renderings of the same rules."""
    events = [*sample.wide_run(20, 6), *sample.copy_run(), *sample.included_run(5), *holed_run(), *long_run()]
    page = await look.page(server.url)
    shown = await page.evaluate(COMPARE.read_text(), {"events": events})
    states: dict[str, RunState] = {}
    for seq, event in enumerate(events, 1):
        states.setdefault(event["runid"], RunState(event["runid"])).apply(event, seq)
    for state, seen in zip(states.values(), shown, strict=True):
        assert seen == comparable(state)


def long_run():
    """More tasks than are listed; of some of the others only a result has come."""
    p = sample.Publisher()
    starts = [p.event("task.started", {"task_id": f"t{n}", "name": f"Task {n}"}) for n in range(5003)]
    return [*starts, *(p.result(number, "Task", "h", "failed") for number in ("t3", "t5001", "alone"))]


def holed_run():
    """Events that come late, one by one and among others, in holes that close, split and stay; and gaps."""
    p = sample.Publisher()
    numbered = {}
    for number in range(1, 41):
        numbered[number] = p.result(f"t{number}", "Task", "h", "ok")
    for first, last in ((16, 20), (30, 34)):
        about = {
            "reason": "spool_full",
            "count": last - first + 1,
            "first_pubseq": first,
            "last_pubseq": last,
        }
        numbered[last] |= {"type": "kubeferry.v1.gap", "data": about}
    order = [1, 2, 6, 4, 3, 12, 8, 10, 9, 5, 20, 14, 15, 25, 34, 13, 7, 22, 40, 39, 36, 31, 17]
    return [numbered[number] for number in order]


FROM_A_SNAPSHOT = [
    *((sample.included_run(5), before) for before in (3, 9, 16, 30)),
    *((holed_run(), before) for before in (1, 3, 6, 10, 12, 14, 15, 17, 19)),
]


@pytest.mark.parametrize(("events", "before"), FROM_A_SNAPSHOT)
async def test_the_page_goes_on_from_a_snapshot_as_the_server_does(server, look, events, before):
    page = await look.page(server.url)
    state = RunState(events[0]["runid"])
    for seq, event in enumerate(events[:before], 1):
        state.apply(event, seq)
    snapshot = {"run": state.run, "seq": before, "state": state.as_dict()}
    (seen,) = await page.evaluate(COMPARE.read_text(), {"events": events[before:], "snapshot": snapshot})
    for seq, event in enumerate(events[before:], before + 1):
        state.apply(event, seq)
    assert seen == comparable(state)


def comparable(state: RunState) -> dict[str, object]:
    """What compare.js returns of a run."""
    ours = state.as_dict()
    names = ("hosts", "tasks", "plays", "progress", "parity", "problems", "namespaces", "gaps", "missing")
    summary = {name: ours["summary"][name] for name in ("counts", "status", "mismatches")}
    summary |= {"started": ours["summary"]["tasks"], "task": ours["summary"].get("task", "")}
    return json.loads(json.dumps({name: ours[name] for name in names} | summary))


async def test_tasks_that_are_included_for_each_host_are_one(server, publisher, look):
    p = sample.Publisher()
    await publisher.publish(sample.included_run(40, 1, p))
    page = await look.page(server.url, f"/runs/{p.run}/timeline")
    await page.wait_for_selector(".step")
    assert await texts(page, ".step .what b") == ["Mount the claim", "Copy"]
    assert await texts(page, ".step .mark") == ["40 ok", "39 ok", "1 failed"]
    await page.click(".step:nth-of-type(3) .what button")
    hosts = await texts(page, "dialog .hosts li")
    assert hosts[0] == "failed shop.claim-1"
    assert len(hosts) == 40
    await page.click("dialog .hosts li:first-child button")
    await page.wait_for_selector("dialog section.card")
    assert await texts(page, "dialog section.card b") == ["shop.claim-1"]
    await shoot(page, "included")
