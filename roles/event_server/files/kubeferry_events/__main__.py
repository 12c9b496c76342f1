# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Run the event server.

usage: python -m kubeferry_events [--host HOST] [--port PORT] [--history FILE|redis://...] [--allow-plain]

Everything else comes from the environment; the role's README lists it. Tokens are never taken from the command line.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import logs
from .errors import ServerError
from .kept_tokens import keep, with_kept
from .open_files import fitting, raise_limit
from .server import Server
from .settings import Settings, check, from_environment

log = logging.getLogger("kubeferry_events")


def settings_from(arguments: Sequence[str]) -> tuple[Settings, set[str]]:
    """The settings, and which tokens nobody set. Raises SettingsError."""
    parser = argparse.ArgumentParser(
        prog="kubeferry_events", description="Shows Ansible runs as they happen."
    )
    parser.add_argument("--host", help="the address to listen on (KUBEFERRY_HOST; 127.0.0.1)")
    parser.add_argument("--port", help="the port, 0 for any (KUBEFERRY_PORT, EXPRESS_PORT; 9000)")
    parser.add_argument("--history", help="an SQLite file or a redis:// URL (KUBEFERRY_HISTORY)")
    parser.add_argument(
        "--allow-plain", action="store_true", help="listen without TLS behind a proxy that ends it"
    )
    options = parser.parse_args(arguments)
    environment = dict(os.environ)
    for name in ("host", "port", "history"):
        if (value := getattr(options, name)) is not None:
            environment[f"KUBEFERRY_{name.upper()}"] = value
    if options.allow_plain:
        environment["KUBEFERRY_ALLOW_PLAIN"] = "1"
    given = from_environment(environment)
    made = {name for name in ("publish_token", "view_token") if not getattr(given, name)}
    return check(with_kept(given)), made


def announce(server: Server, made: set[str], kept: Path | None) -> None:
    """Say where the page is and how to use it. Tokens that the user set are not repeated."""
    settings, say = server.settings, sys.stdout.write
    say(f"The event server listens on {server.url}\n")
    if "view_token" in made:
        say(f"  open the page and give it the view token:  {settings.view_token}\n")
    if "publish_token" in made:
        socket = server.url.replace("http", "ws", 1) + "/ws"
        say("  let playbooks publish to it:\n")
        say("    export ANSIBLE_CALLBACKS_ENABLED=kubeferry.pvc.events\n")
        say(f"    export KUBEFERRY_EVENTS_URL={socket}\n")
        say(f"    export KUBEFERRY_EVENTS_TOKEN={settings.publish_token}\n")
    if kept:
        say(f"  The next start has the same tokens, from {kept}. Remove that file for new ones.\n")
    elif made:
        say(
            "  The tokens hold for this start; set KUBEFERRY_VIEW_TOKEN and KUBEFERRY_PUBLISH_TOKEN to keep them.\n"
        )
    sys.stdout.flush()


async def serve(settings: Settings, made: set[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = Server(settings)
    await server.start()
    announce(server, made, keep(settings, made))
    await stop.wait()
    await server.stop()


def main() -> None:
    logs.set_up()
    try:
        settings, made = settings_from(sys.argv[1:])
        files = raise_limit()
        limits = fitting(settings.limits, files)
        if limits.connections < settings.limits.connections:
            log.warning("only %d files may be open: %d WebSockets at most", files, limits.connections)
        settings = replace(settings, limits=limits)
        asyncio.run(serve(settings, made))
    except ServerError as error:
        sys.exit(f"kubeferry_events: {error}")


if __name__ == "__main__":
    main()
