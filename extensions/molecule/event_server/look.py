# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""Write what the event server shows of its newest run as JSON.

usage: look.py URL TOKEN
"""

from __future__ import annotations

import json
import sys
import time

import websocket


def main() -> None:
    url, token = sys.argv[1:]
    socket = websocket.create_connection(url, timeout=10)

    def ask(**message: object) -> dict:
        socket.send(json.dumps(message))
        return json.loads(socket.recv())

    ask(type="HELLO", token=token)
    for _attempt in range(20):
        runs = ask(type="SUBSCRIBE")["state"]["runs"]
        if runs and runs[0]["status"] != "running":
            break
        time.sleep(0.5)
    json.dump(ask(type="SUBSCRIBE", run=runs[0]["run"])["state"], sys.stdout)


if __name__ == "__main__":
    main()
