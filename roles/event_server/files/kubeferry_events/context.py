# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""What every connection of one server shares."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from .callers import Callers
from .hub import Hub
from .ingest import Ingest
from .kubernetes import KubernetesEvents
from .limits import TokenBucket
from .metrics import Metrics
from .sessions import Sessions
from .settings import Settings


@dataclass(frozen=True)
class Context:
    """The parts of the server, made once."""

    settings: Settings
    version: str
    hub: Hub
    ingest: Ingest
    metrics: Metrics
    callers: Callers
    sessions: Sessions
    kubernetes: KubernetesEvents | None
    # Kubernetes requests of all connections that have not proved anything, together.
    stranger_questions: TokenBucket = field(default_factory=lambda: TokenBucket(20, 40, time.monotonic()))
