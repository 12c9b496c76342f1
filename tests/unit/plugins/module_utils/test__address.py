# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import importlib.util

import pytest

from ansible_collections.kubeferry.pvc.plugins.module_utils._address import (
    passwords,
    proxy_address,
    server_address,
)
from ansible_collections.kubeferry.pvc.plugins.module_utils._errors import UsageError

# What no URL is, whatever it is for, and a word of what is said about it.
NONE = [
    ("", "is empty"),
    ("nonsense", "no scheme"),
    ("localhost:6443", "no scheme"),
    ("http://", "no host"),
    ("://", "no host"),
    ("http://[::1", "brackets"),
    ("http://[bad", "brackets"),
    ("http://[1.2.3.4:5]", "its host"),
    ("http://s3cret:s3cret@h:99999", "port"),
    ("http://h:abc", "port"),
    ("http://h:0", "no port"),
    ("http://h:", "no port"),
    ("http://a..b", "no name"),
    ("http://" + "a" * 64, "no name"),
    ("http://a%20b", "no name"),
    ("http://ho st", "a blank"),
    ("http://x\ny", "a blank"),
    ("http://ünï.example", "a blank"),
]


@pytest.mark.parametrize(("url", "word"), NONE)
def test_what_is_no_url_is_refused_in_one_sentence(url, word):
    for read in (lambda: server_address(url, "X"), lambda: proxy_address(url, "X", {})):
        with pytest.raises(UsageError, match=r"^X ") as caught:
            read()
        said = str(caught.value)
        assert word in said
        assert said.count(": ") == 1
        assert said.endswith(".")
        assert "s3cret" not in said


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://h", "begins with ftp://"),
        ("unix:///x", "no host"),
        ("https://user:s3cret@h", "username and password"),
        ("https://h?a=b", "a ? or #"),
        ("https://h/a#b", "a ? or #"),
    ],
)
def test_what_no_api_server_has(url, word):
    with pytest.raises(UsageError) as caught:
        server_address(url, "X")
    assert word in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://h", "https://h"),
        ("HTTPS://h:6443/", "https://h:6443"),
        ("https://[::1]:1/a/b/", "https://[::1]:1/a/b"),
        ("http://a.b-c.d./", "http://a.b-c.d."),
        ("https://xn--n-wga.example", "https://xn--n-wga.example"),
    ],
)
def test_a_server(url, address):
    assert server_address(url, "X") == address


@pytest.mark.parametrize("url", ["https://p:1", "ftp://p"])
def test_a_proxy_that_cannot_do_it_is_refused(url):
    with pytest.raises(UsageError, match=r"^proxy begins with .*: give a proxy with http://"):
        proxy_address(url, "proxy", {})


def test_a_socks_proxy_needs_two_libraries(monkeypatch):
    for there, works in ((set(), False), ({"socks"}, False), ({"socks", "python_socks"}, True)):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, there=there: name in there or None)
        if works:
            assert proxy_address("socks5h://p", "X", {}).options()["http_proxy_port"] == 1080
        else:
            with pytest.raises(UsageError, match=r"^X is a SOCKS proxy.*PySocks and python-socks"):
                proxy_address("socks5h://p", "X", {})


def test_the_passwords_in_addresses_are_found_at_any_depth():
    params = {
        "proxy": "http://u:a%2Fb@p:1",
        "source": {"host": "https://u:c:d@h", "proxy": None, "path": "//u:no@h"},
        "target": {"proxy": "http://u:e@f@p", "host": "https://h:1/a@b"},
    }
    assert set(passwords(params)) == {"a%2Fb", "a/b", "c:d", "e@f"}
