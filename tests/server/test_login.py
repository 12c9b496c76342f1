# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""OpenShift's sign-in, a small issuer's, and the session that they give, and a watch that the API server forgets."""

from __future__ import annotations

import asyncio
import base64
import json
from urllib.parse import parse_qs, unquote_plus, urlsplit

import aiohttp
import pytest
from eventkit import VIEW_TOKEN, Client, metric, running
from fakeapi_events import CODE, TOKEN, FakeApi, event
from fakeissuer import ACCESS, REFRESH, FakeIssuer
from webkit import serving

LOGIN = {"KUBEFERRY_LOGIN": "openshift", "KUBEFERRY_OIDC_CLIENT_ID": "kubeferry"}


@pytest.fixture
async def api():
    async with FakeApi().running() as fake:
        yield fake


@pytest.fixture
async def server(api):
    async with running(KUBEFERRY_KUBE_API=api.url, **LOGIN) as process:
        yield process


@pytest.fixture
async def browser():
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def sign_in(browser, server):
    async with browser.get(f"{server.url}/login") as answer:
        assert (answer.status, answer.url.path) == (200, "/")
        return answer


async def socket(browser, server):
    client = Client(browser, await browser.ws_connect(f"{server.url}/ws"))
    await client.send({"type": "HELLO", "token": VIEW_TOKEN})
    return client, await client.receive()


async def test_signing_in_and_reading_events_without_a_token_in_the_message(api, server, browser):
    api.items = [event(f"e{n}", n) for n in range(1200)]
    answer = await sign_in(browser, server)
    for step in [*answer.history, answer]:
        assert TOKEN not in str(step.url)
        assert TOKEN not in str(step.headers)
    client, welcome = await socket(browser, server)
    assert welcome["login"]["user"] == "ada"
    got = await client.ask({"type": "GET_EVENTS", "namespace": "x"})
    assert len(got["data"]["items"]) == 1200
    assert all(TOKEN not in frame for frame in client.frames)
    await client.ws.close()


async def test_the_cookie_is_for_this_server_alone(server, browser):
    answer = await sign_in(browser, server)
    (cookie,) = [
        step.headers.getall("Set-Cookie")
        for step in answer.history
        if "kubeferry_session" in str(step.headers)
    ]
    session = next(line for line in cookie if line.startswith("kubeferry_session"))
    assert "HttpOnly" in session
    assert "SameSite=Strict" in session
    assert "Domain" not in session


async def test_signing_out_ends_everything(api, server, browser):
    await sign_in(browser, server)
    client, _welcome = await socket(browser, server)
    await client.ask({"type": "WATCH_EVENTS", "namespace": "x"})
    async with browser.post(f"{server.url}/logout") as answer:
        assert answer.status == 403  # without an Origin it wasn't our page
    async with browser.post(f"{server.url}/logout", headers={"Origin": "http://evil.example"}) as answer:
        assert answer.status == 403
    async with browser.post(f"{server.url}/logout", headers={"Origin": server.url}) as answer:
        assert answer.url.path == "/"
    assert (await client.until("ERROR"))["code"] == "signed_out"
    answer = await client.ask({"type": "GET_EVENTS", "namespace": "x"})
    assert answer["code"] in ("k8s_token_missing", "signed_out")
    assert len(api.deleted) == 1
    assert "canary" not in api.deleted[0]
    await client.ws.close()


async def test_the_page_hears_when_the_token_expires(api, browser):
    api.expires_in = 1
    async with running(KUBEFERRY_KUBE_API=api.url, **LOGIN) as server:
        await sign_in(browser, server)
        client, welcome = await socket(browser, server)
        assert welcome["login"]["user"] == "ada"
        assert (await client.until("ERROR", 5))["code"] == "signed_out"
        await client.ws.close()


async def test_whoever_signed_in_may_view_where_that_is_set(api, browser):
    async with running(KUBEFERRY_KUBE_API=api.url, KUBEFERRY_LOGIN_GRANTS_VIEW="1", **LOGIN) as server:
        await sign_in(browser, server)
        client = Client(browser, await browser.ws_connect(f"{server.url}/ws"))
        assert (await client.ask({"type": "HELLO"}))["scopes"] == ["view"]
        assert (await client.ask({"type": "SUBSCRIBE"}))["type"] == "SNAPSHOT"
        await client.ws.close()


async def begin(browser, server):
    """A sign-in up to the issuer's answer, which is returned and not followed."""
    async with browser.get(f"{server.url}/login", allow_redirects=False) as answer:
        authorize = answer.headers["Location"]
    async with browser.get(authorize, allow_redirects=False) as answer:
        return answer.headers["Location"]


async def refused(browser, url):
    async with browser.get(url) as answer:
        text = await answer.text()
        assert (answer.status, "Signing in failed" in text) == (400, True)
        assert CODE not in text
        return text


async def test_an_answer_is_good_once(server, browser):
    callback = await begin(browser, server)
    async with browser.get(callback) as answer:
        assert answer.status == 200
    await refused(browser, callback)


async def test_an_answer_with_another_state_is_refused(server, browser):
    callback = await begin(browser, server)
    state = parse_qs(urlsplit(callback).query)["state"][0]
    await refused(browser, callback.replace(state, "x" * len(state)))
    await refused(browser, callback.split("state=")[0])


async def test_an_answer_in_another_browser_is_refused(server, browser):
    callback = await begin(browser, server)
    async with aiohttp.ClientSession() as other:
        assert "another browser" in await refused(other, callback)


async def test_an_answer_with_another_code_is_refused(server, browser):
    callback = await begin(browser, server)
    await refused(browser, callback.replace(CODE, "other"))


async def test_an_answer_that_names_another_issuer_is_refused(server, browser):
    callback = await begin(browser, server)
    await refused(browser, f"{callback}&iss=https%3A%2F%2Fevil.example")


async def test_nothing_of_it_is_in_the_log(server, browser):
    await sign_in(browser, server)
    await refused(browser, f"{server.url}/login/callback?code={CODE}&state=x")
    await server.stop()
    for path in server.directory.iterdir():
        for secret in (TOKEN, CODE):
            assert secret.encode() not in path.read_bytes()


async def test_an_issuer_that_is_away_is_a_sentence(browser):
    async with (
        running(KUBEFERRY_KUBE_API="http://127.0.0.1:1", **LOGIN) as server,
        browser.get(f"{server.url}/login") as answer,
    ):
        assert answer.status == 400
        assert "can&#x27;t be asked" in await answer.text()


# OpenShift's usual client, with a secret of all that form-urlencoding changes.
ACCOUNT, SECRET = "system:serviceaccount:kubeferry:kubeferry", "s3:cret+/% \u20ac"


def proof(authorization):
    """Who asked, read as RFC 6749 2.3.1 says."""
    name, _colon, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
    return unquote_plus(name), unquote_plus(secret)


async def test_a_service_account_signs_in_at_openshift(api, browser):
    api.client_id = ACCOUNT
    login = {**LOGIN, "KUBEFERRY_OIDC_CLIENT_ID": ACCOUNT, "KUBEFERRY_OIDC_CLIENT_SECRET": SECRET}
    async with running(KUBEFERRY_KUBE_API=api.url, **login) as server:
        await sign_in(browser, server)
    assert proof(api.authorization) == (ACCOUNT, SECRET)


@pytest.fixture
async def issuer():
    async with FakeIssuer().running() as fake:
        yield fake


def at(issuer, **more):
    return running(
        KUBEFERRY_OIDC_ISSUER=issuer.url,
        KUBEFERRY_OIDC_CLIENT_ID=issuer.client_id,
        **more,
    )


async def sign_out(browser, server):
    async with browser.post(f"{server.url}/logout", headers={"Origin": server.url}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("tokens", "revoked"),
    [
        ({"access_token": ACCESS, "refresh_token": REFRESH}, [REFRESH]),
        ({"access_token": ACCESS}, [ACCESS]),
        ({}, []),
    ],
)
async def test_signing_out_revokes_what_the_issuer_gave(issuer, browser, tokens, revoked):
    issuer.client_id, issuer.tokens = ACCOUNT, tokens
    async with at(issuer, KUBEFERRY_OIDC_CLIENT_SECRET=SECRET) as server:
        answer = await sign_in(browser, server)
        client, welcome = await socket(browser, server)
        assert welcome["login"]["user"] == "ada"
        await sign_out(browser, server)
        await client.until("ERROR")
        await client.ws.close()
        await server.stop()
        seen = [str(step.headers) for step in [*answer.history, answer]] + client.frames
        kept = [path.read_bytes().decode("utf-8", "replace") for path in server.directory.iterdir()]
    assert [path for path, _proof, _form in issuer.asked] == ["/token", *["/revoke"] * len(revoked)]
    assert {proof(authorization) for _path, authorization, _form in issuer.asked} == {(ACCOUNT, SECRET)}
    assert [form["token"] for _path, _proof, form in issuer.asked[1:]] == revoked
    for secret in (ACCESS, REFRESH, SECRET, issuer.id_token):
        assert not [text for text in [*seen, *kept] if secret in text]


async def test_signing_in_again_ends_the_session_before(issuer, browser):
    async with at(issuer) as server:
        await sign_in(browser, server)
        client, _welcome = await socket(browser, server)
        issuer.tokens = {"refresh_token": "the second one"}
        await sign_in(browser, server)
        assert (await client.until("ERROR"))["code"] == "signed_out"
        await client.ws.close()
        assert await metric(server, "sessions") == 1
        assert [form["token"] for path, _proof, form in issuer.asked if path == "/revoke"] == [REFRESH]
        _client, welcome = await socket(browser, server)
        assert welcome["login"]["user"] == "ada"
        await sign_out(browser, server)
    assert [form["token"] for path, _proof, form in issuer.asked if path == "/revoke"][1:] == [
        "the second one"
    ]


async def test_a_token_that_the_next_session_has_too_is_not_revoked(api, server, browser):
    await sign_in(browser, server)
    await sign_in(browser, server)
    assert api.deleted == []
    client, _welcome = await socket(browser, server)
    assert (await client.ask({"type": "GET_EVENTS", "namespace": "x"}))["type"] == "GET_EVENTS"
    await client.ws.close()


async def test_a_client_without_a_secret_revokes_by_its_name(issuer, browser):
    async with at(issuer) as server:
        await sign_in(browser, server)
        await sign_out(browser, server)
    form = {"token": REFRESH, "client_id": "kubeferry"}
    assert issuer.asked[1:] == [("/revoke", None, form)]


async def test_tokens_are_not_revoked_in_the_open(issuer, browser):
    issuer.metadata = {"revocation_endpoint": "http://issuer.example/revoke"}
    async with at(issuer) as server, browser.get(f"{server.url}/login") as answer:
        assert answer.status == 400
        assert "revocation_endpoint is no https URL" in await answer.text()


async def test_an_end_that_no_clock_reaches_is_refused(issuer, browser):
    issuer.claims = {"exp": 10**400}
    async with at(issuer) as server:
        assert "The ID token is not valid" in await refused(browser, f"{server.url}/login")


async def test_a_token_of_openshift_whose_end_no_clock_reaches(api, server, browser):
    api.expires_in = 10**400
    await sign_in(browser, server)


async def test_a_watch_goes_on_after_it_ends_and_lists_again_after_410(api, server):
    api.items = [event("first", 3)]
    async with await Client.connect(server.url) as client:
        listed = await client.ask(
            {"type": "WATCH_EVENTS", "namespace": "x", "token": {"access_token": TOKEN}}
        )
        assert [item["message"] for item in listed["data"]["items"]] == ["first"]
        api.changes.put_nowait({"type": "ADDED", "object": event("second", 11)})
        assert (await client.events(1))[0]["data"]["object"]["message"] == "second"
        api.changes.put_nowait({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "99"}}})
        api.changes.put_nowait({"type": "END"})
        for _attempt in range(100):
            if api.watches == ["10", "99"]:
                break
            await asyncio.sleep(0.05)
        assert api.watches == ["10", "99"]
        # 410 as an event of the stream, and then as the answer to the next watch.
        api.version, api.gone_once = 200, True
        api.changes.put_nowait({"type": "ERROR", "object": {"kind": "Status", "code": 410}})
        for _attempt in range(2):
            assert (await client.until("GET_EVENTS"))["watching"] is True
        api.changes.put_nowait({"type": "DELETED", "object": event("second", 201)})
        assert (await client.events(1))[0]["data"]["change"] == "DELETED"
        assert api.lists == 3


async def test_redirects_do_not_carry_the_token_away(api, tmp_path):
    asked = []

    async def elsewhere(request):
        asked.append(dict(request.headers))
        return aiohttp.web.json_response({})

    async def redirecting(request):
        raise aiohttp.web.HTTPTemporaryRedirect(f"{api.url}/elsewhere")

    app = aiohttp.web.Application()
    app.router.add_get("/api/v1/namespaces/x/events", redirecting)
    async with (
        serving(app) as url,
        running(KUBEFERRY_KUBE_API=url) as server,
        await Client.connect(server.url) as client,
    ):
        answer = await client.ask({"type": "GET_EVENTS", "namespace": "x", "token": {"access_token": TOKEN}})
        assert answer["code"] == "k8s_error"
        assert TOKEN not in json.dumps(answer)
    assert asked == []
