# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""A job as AWX runs it in a container group: the sample project under ansible-runner, with AWX's layout and variables.

The job has no HOME, runs as a user that /etc/passwd doesn't know, may not write to its project, and gets its
credentials through the injectors of extensions/awx. Its Python is .cache/venv-ee, so that what the execution
environment lacks is missed here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / "build" / "ee" / "collections"
AWX = ROOT / "extensions" / "awx"
BIN = ROOT / ".cache" / "venv-ee" / "bin"
# A user as OpenShift chooses them; in a user namespace, so that it takes no root and no files change hands.
USER = ["unshare", "--user", "--map-user=1000650000", "--map-group=0"]
MARK = "KUBEFERRY_AWX_TEST"


class _Loader(yaml.SafeLoader):
    """YAML with Ansible's !unsafe, which is plain text to AWX."""


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


class Unsafe(str):
    """Text that AWX marks, so that Ansible never takes it for a template."""

    __slots__ = ()


yaml.SafeDumper.add_representer(Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


def credential_type(name: str) -> dict[str, Any]:
    types = yaml.load((AWX / "vars" / "credential_types.yml").read_text(), Loader=_Loader)
    (found,) = [each for each in types["kubeferry_credential_types"] if each["name"] == f"kubeferry {name}"]
    return found


SURVEYS = {
    "copy": ("claims", "copy", "options", "helpers"),
    "verify": ("claims", "extra", "options", "helpers"),
    "plan": ("plan", "migrate_helpers"),
    "migrate": ("migrate", "migrate_helpers"),
}


def survey_answers(playbook: str, **answers: str) -> dict[str, str]:
    """The answers that a survey sends: its form is filled with the defaults, and then with what the user typed.

    AWX doesn't launch a job that a required answer is missing from.
    """
    survey = yaml.safe_load((AWX / "vars" / "surveys.yml").read_text())
    questions = [question for part in SURVEYS[playbook] for question in survey[f"kubeferry_survey_{part}"]]
    assert answers.keys() <= {question["variable"] for question in questions}
    sent = {question["variable"]: question.get("default", "") for question in questions} | answers
    assert all(sent[question["variable"]] for question in questions if question["required"])
    return sent


class Job:
    """One job: a private data directory, and ansible-runner once it is started."""

    def __init__(self, folder: Path, playbook: str, answers: Mapping[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self.folder = folder / "runner"
        self.scratch = folder / "tmp"
        self._playbook = playbook
        self._env: dict[str, str] = {
            "AWX_PRIVATE_DATA_DIR": str(self.folder),
            "JOB_ID": "42",
            "INVENTORY_ID": "1",
            "PROJECT_REVISION": "0" * 40,
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_FORCE_COLOR": "True",
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
            "ANSIBLE_PARAMIKO_RECORD_HOST_KEYS": "False",
            "ANSIBLE_COLLECTIONS_PATH": f"{self.folder}/requirements_collections:{COLLECTIONS}",
            "ANSIBLE_CALLBACKS_ENABLED": "kubeferry.pvc.events",
            "MAX_EVENT_RES": "700000",
            "AWX_HOST": "https://awx.example.com",
        }
        self._arguments = ["-u", "root"]
        for name in ("inventory", "env", "tmp"):
            (self.folder / name).mkdir(parents=True)
        self.scratch.mkdir(parents=True)
        shutil.copytree(AWX / "project", self.folder / "project")
        host = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        self.hold({"all": {"hosts": ["localhost"]}, "_meta": {"hostvars": {"localhost": host}}})
        meta = {"awx_job_id": 42, "awx_job_template_name": f"kubeferry {playbook}", "awx_user_name": "admin"}
        texts = {
            key: Unsafe(value) if isinstance(value, str) else value for key, value in (answers | meta).items()
        }
        self._write("env/extravars", yaml.safe_dump(texts))
        self._write("env/settings", json.dumps({"suppress_ansible_output": True}))

    def hold(self, inventory: Mapping[str, Any]) -> None:
        """Have the inventory that AWX has stored."""
        self._write("inventory/hosts", f"#!/usr/bin/env python3\nprint({json.dumps(inventory)!r})\n", 0o700)

    def update_inventory(self, source_path: str, host: str, token: str, authority: str) -> Any:
        """Read an inventory of the project, as AWX does for its source, and have that one; what was read.

        AWX does so in a job of its own, with its own "OpenShift or Kubernetes API Bearer Token".
        """
        given = self._token(host, token, authority=authority)
        done = subprocess.run(
            [BIN / "ansible-inventory", "-i", self.folder / "project" / source_path, "--list", "--export"],
            env={"PATH": f"{BIN}:/usr/bin:/bin", "TMPDIR": str(self.scratch), **self._env, **given},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        listed = json.loads(done.stdout)
        self.hold(listed)
        return listed

    def _write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def attach(self, kind: str, inputs: Mapping[str, Any]) -> None:
        """Inject a credential of a type of ours, as AWX does: files, then environment, then extra vars."""
        declared = credential_type(kind)
        fields = {field["id"]: field for field in declared["inputs"]["fields"]}
        assert set(declared["inputs"]["required"]) <= inputs.keys() <= fields.keys()
        missing = {key: False for key, field in fields.items() if field["type"] == "boolean"}
        given = {key: value for key, value in inputs.items() if isinstance(value, bool) or value}
        files: dict[str, str] = {}
        namespace = {**missing, **given, "tower": {"filename": files}}
        sandbox = ImmutableSandboxedEnvironment()

        def render(template: str) -> str:
            return sandbox.from_string(template).render(**namespace)

        for label, template in declared["injectors"].get("file", {}).items():
            path = self._write(f"env/tmp{uuid.uuid4().hex[:8]}", render(template))
            files[label.partition(".")[2]] = str(path)
        for name, template in declared["injectors"].get("env", {}).items():
            self._env[name] = render(template)
        if variables := declared["injectors"].get("extra_vars"):
            texts = {key: Unsafe(render(template)) for key, template in variables.items()}
            path = self._write(f"env/tmp{uuid.uuid4().hex[:8]}", yaml.safe_dump(texts), 0o400)
            self._arguments += ["-e", f"@{path}"]

    def attach_token(self, host: str, token: str, *, authority: str = "", verify: bool = True) -> None:
        """AWX's own "OpenShift or Kubernetes API Bearer Token", which verifies only where it has an authority."""
        self._env |= self._token(host, token, authority=authority, verify=verify)

    def _token(self, host: str, token: str, *, authority: str, verify: bool = True) -> dict[str, str]:
        given = {"K8S_AUTH_HOST": host, "K8S_AUTH_API_KEY": token}
        given["K8S_AUTH_VERIFY_SSL"] = str(bool(verify and authority))
        if verify and authority:
            path = self._write(f"env/tmp{uuid.uuid4().hex[:8]}", authority)
            given["K8S_AUTH_SSL_CA_CERT"] = str(path)
        return given

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        self._write("env/cmdline", subprocess.list2cmdline([*self._arguments, *options]))
        self._write("env/envvars", json.dumps(self._env))
        for path in [*(self.folder / "project").rglob("*"), self.folder / "project"]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [
            BIN / "ansible-runner",
            "run",
            self.folder,
            "-p",
            f"{self._playbook}.yml",
            "-i",
            "42",
            "-q",
        ]
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [*USER, *command],
                cwd=self.folder,
                env={"PATH": f"{BIN}:/usr/bin:/bin", "TMPDIR": str(self.scratch), MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def run(self, *options: str, seconds: float = 120) -> int:
        return self.start(*options).wait(seconds)

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts" / "42"

    @property
    def output(self) -> str:
        paths = (self.artifacts / "stdout", self.folder / "output")
        return "".join(path.read_text(errors="replace") for path in paths if path.exists())

    def events(self) -> Iterator[dict[str, Any]]:
        """What AWX would store, in order."""
        paths = (self.artifacts / "job_events").glob("*-*.json")
        for path in sorted(paths, key=lambda path: int(path.name.partition("-")[0])):
            yield json.loads(path.read_text())

    def stored_artifacts(self) -> dict[str, Any]:
        """What AWX keeps as the job's artifacts: the set_stats that aren't for one host."""
        return [event for event in self.events() if event["event"] == "playbook_on_stats"][-1]["event_data"][
            "artifact_data"
        ]

    def processes(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def kill_everything(self) -> None:
        for process in self.processes():
            try:
                os.kill(process, signal.SIGKILL)
            except OSError:
                continue
