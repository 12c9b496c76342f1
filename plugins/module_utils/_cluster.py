# Copyright: the kubeferry.pvc contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Note: private to the kubeferry.pvc collection; it may change without notice.
"""The one place that imports `kubernetes` and `kubernetes.core`: credentials in, a :class:`Cluster` out.

`kubernetes.core` reads the options (arguments, `K8S_AUTH_*`, kubeconfig, in-cluster) just as it does for
its own modules; `kubernetes` contributes configuration, credential plugins and connection pools.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import ssl
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_MAP

from ._address import Proxy, in_the_clear, proxy_address, server_address, variable_of
from ._auth_args import AUTH_ARG_SPEC
from ._cluster_api import ClusterApi
from ._credential_plugin import bounded, complaints, why
from ._errors import KubeferryError, Unauthorized, UsageError
from ._exec import Access, ExecRunner, Negotiated
from ._exec_errors import Target
from ._exec_stream import HAS_WEBSOCKET, Limits
from ._headers import authorization, basic, text
from ._rest import Headers, Response, Rest
from ._token_file import TokenFile

try:
    import kubernetes
    import urllib3
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import (
        _create_auth_spec,
        _create_configuration,
        _create_headers,
    )
    from kubernetes.client.rest import should_bypass_proxies
    from kubernetes.config import incluster_config, kube_config
    from urllib3._collections import HTTPHeaderDict
    from urllib3.util.ssl_ import create_urllib3_context

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

AUTH_KEYS = tuple(AUTH_ARG_SPEC)
"""The options that say which cluster and who."""

# Names a cluster, so an endpoint that gives one of them inherits no credentials meant for another.
_WHERE = ("kubeconfig", "host")
_NAMING = ("kubeconfig", "context", "host", "api_key")
_CERTIFICATE = ("client_cert", "client_key")
_SHARED = ("proxy", "no_proxy", "proxy_headers", "persist_config")
_IMPERSONATION = {"Impersonate-User": "impersonate_user", "Impersonate-Group": "impersonate_groups"}
_NO_MAPPING = "it is no mapping with clusters, contexts and users"
_UNLIKE = {
    "UnicodeDecodeError": "it is no text",
    **dict.fromkeys(("AttributeError", "KeyError", "TypeError"), _NO_MAPPING),
}
_OF_OPENSSL = {
    "KEY_VALUES_MISMATCH": "the key isn't the certificate's",
    "NO_CERTIFICATE_OR_CRL_FOUND": "there is no PEM certificate in it",
}
_YAML_ERRORS = {"ScannerError", "ParserError", "ReaderError", "ConstructorError", "ComposerError"}

# `kubernetes.config` works on one global default configuration, and on one table of files.
_loading = threading.Lock()


def auth_of(task: Mapping[str, Any], endpoint: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The authentication options of an endpoint: its own over the task's.

    An endpoint with `kubeconfig` or `host` names its cluster itself: it inherits no credential, neither
    from the task nor from the environment, so no token goes to a cluster it isn't for. An endpoint with
    just `context` takes that context of the task's kubeconfig. One with just `api_key` is somebody else than the task's
    client certificate. The key `""` says that the environment counts.
    """
    own, given = _given(endpoint or {}), _given(task)
    shared = {key: value for key, value in given.items() if key in _SHARED}
    if any(key in own for key in _WHERE):
        return {**shared, **own}
    if "context" in own:
        kubeconfig = task.get("kubeconfig") or os.environ.get("K8S_AUTH_KUBECONFIG")
        return {**shared, **({"kubeconfig": kubeconfig} if kubeconfig else {}), **own}
    if "api_key" in own:
        given = {key: value for key, value in given.items() if key not in _CERTIFICATE}
    return {**given, **own, "": True}


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {key: params[key] for key in AUTH_KEYS if params.get(key) is not None}


def connect(params: Mapping[str, Any], endpoint: Mapping[str, Any] | None = None) -> Cluster:
    """The cluster that the authentication options in `params`, and those in `endpoint` over them, name.

    Nothing is sent yet. Raises UsageError for options that don't add up, and Unauthorized if a kubeconfig's
    credential plugin fails.
    """
    if IMPORT_ERROR or not HAS_WEBSOCKET:
        raise UsageError(
            "The Python libraries kubernetes, urllib3 and websocket-client and the collection kubernetes.core "
            "(6.1.0 or later) are needed on the host that runs the task: install them for its Python."
        )
    auth = auth_of(params, endpoint)
    environment = auth.pop("", False)
    _check(auth)
    spec = _create_auth_spec(None, **auth) if environment else _explicit(auth)
    # A variable that is empty stands for one that isn't there.
    spec = {key: value for key, value in spec.items() if value != "" or key not in _NAMING}
    extra = _create_headers(None, **auth) if environment else _impersonation(auth)
    headers = spec.pop("proxy_headers", None) or {}
    file = _kubeconfig(auth)
    server = _named("host", auth, environment, f"The server of {file}")
    if "host" in spec:  # before anything is loaded, since the loader's own error would be about a kubeconfig
        server_address(spec["host"], server)
    _check_pair(spec)
    with _loading, _files_removed():
        configuration = _load(spec, auth)
        token_file = _token_file(spec, configuration)
        base = server_address(str(configuration.host), server)
        certificates = _certificates(configuration, base, _Sources(spec, file))
    proxy = None
    if configuration.proxy and not should_bypass_proxies(base, no_proxy=configuration.no_proxy or ""):
        url = str(configuration.proxy)
        other = variable_of(url) or f"proxy-url of {file}"
        proxy = proxy_address(url, _named("proxy", auth, environment, other), headers)
    token = _named("api_key", auth, environment, f"The token of {file}")
    why_insecure = _why_insecure(auth) if environment else ""
    return Cluster(configuration, extra, Way(base, proxy, token, why_insecure), certificates, token_file)


def _load(spec: dict[str, Any], auth: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The configuration of `kubernetes`: addresses, certificates, and what gives credentials."""
    try:
        bounded()
        with complaints() as said:
            # Else settings of the cluster connected before, a client certificate say, would leak into this.
            kubernetes.client.Configuration.set_default(None)
            configuration = _create_configuration(spec)
            if "api_key" in auth:
                _only_token(configuration, auth)
    except Exception as exc:  # noqa: BLE001 -- the loader raises whatever a bad file makes YAML or itself raise
        error = _unusable(exc, auth)
    else:
        if not (configuration.api_key or configuration.cert_file or configuration.username):
            _require_user(spec, auth, said)
        return configuration
    raise error


def _only_token(configuration: Any, auth: Mapping[str, Any]) -> None:  # noqa: ANN401
    """Let the option `api_key` say who we are, and not what the kubeconfig has or the environment.

    The loader's hook would put its own token back, and a server asks for a certificate before it looks at a token.
    """
    configuration.refresh_api_key_hook = None
    if not auth.keys() & {*_CERTIFICATE}:
        configuration.cert_file = configuration.key_file = None


def _token_file(spec: Mapping[str, Any], configuration: Any) -> TokenFile | None:  # noqa: ANN401
    """The file that the token came from, if it did. It is asked from now on, since the loader reads it but once."""
    hook = configuration.refresh_api_key_hook
    if hook is None:
        return None
    if hook.__module__ == incluster_config.__name__:
        path = incluster_config.SERVICE_TOKEN_FILENAME
    else:
        name, users = _user(spec)
        entry = next(each for each in users if each["name"] == name)
        if "tokenFile" not in entry["user"]:
            return None
        path = os.path.join(os.path.dirname(getattr(entry, "path", None) or ""), entry["user"]["tokenFile"])
    file = TokenFile(os.path.abspath(path))
    hook(configuration)
    if not any(value.partition(" ")[2].strip() == file.token for value in configuration.api_key.values()):
        return None  # the user has a token beside it, which counts
    configuration.refresh_api_key_hook = file.refresh
    return file


@contextlib.contextmanager
def _files_removed() -> Iterator[None]:
    """Remove what `kubernetes` writes meanwhile of a kubeconfig's certificates and keys, and nothing that was there.

    It does so itself at the end of the process, which one that is killed never comes to.
    """
    files: dict[str, str] = getattr(kube_config, "_temp_files", {})
    before = set(files)
    try:
        yield
    finally:
        for content in files.keys() - before:
            with contextlib.suppress(OSError):
                os.unlink(files.pop(content))


@dataclass(frozen=True)
class _Sources:
    """Where certificates and keys come from, in a message's words. `file` is the kubeconfig."""

    spec: Mapping[str, Any]
    file: str

    @property
    def authority(self) -> str:
        given = self.spec.get("ssl_ca_cert")
        return f"ca_cert {given}" if given else f"The authority of {self.file}"

    @property
    def pair(self) -> str:
        certificate, key = self.spec.get("cert_file"), self.spec.get("key_file")
        if certificate:
            return f"client_cert {certificate} with client_key {key or ''}".rstrip()
        return f"The client certificate with its key of {self.file}"


def _certificates(configuration: Any, base: str, sources: _Sources) -> Certificates | None:  # noqa: ANN401
    """What the connections to the server are verified by, read from the files that hold it. None without TLS."""
    if not base.startswith("https"):
        return None
    contexts = Certificates(_context(configuration, base, sources), _context(configuration, base, sources))
    # urllib3 compares the names itself; before its version 2 it can't let ssl do so for an IP address.
    contexts.requests.check_hostname = False
    return contexts


def _context(configuration: Any, base: str, sources: _Sources) -> ssl.SSLContext:  # noqa: ANN401
    # urllib3's own, so that both ways to the server verify it in the same way.
    context: ssl.SSLContext = create_urllib3_context(
        cert_reqs=ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE
    )
    with _usable(sources.authority, base):
        authority, data = configuration.ssl_ca_cert, getattr(configuration, "ca_cert_data", None)
        if not configuration.verify_ssl:
            context.check_hostname = False
        elif authority or data:
            context.load_verify_locations(cafile=authority or None, cadata=data or None)
        else:
            context.load_default_certs()
        if configuration.verify_ssl:
            context.check_hostname = configuration.assert_hostname is not False
    if configuration.cert_file:
        with _usable(sources.pair, base):
            context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


@contextlib.contextmanager
def _usable(what: str, base: str) -> Iterator[None]:
    """Raises UsageError, about `what` in a message's words, for files that ssl can't take."""
    try:
        yield
    except (OSError, ValueError) as exc:
        # What ssl calls strerror is of its own source code.
        told = getattr(exc, "reason" if isinstance(exc, ssl.SSLError) else "strerror", "")
        reason = _OF_OPENSSL.get(told, told) or type(exc).__name__
    else:
        return
    raise UsageError(
        f"{what} can't be used for {urlsplit(base).netloc} ({reason}): check that it exists, is PEM and, of a "
        "certificate and a key, that they belong together."
    )


def _check(auth: Mapping[str, Any]) -> None:
    for key in _NAMING:
        if key in auth and not auth[key]:
            # Else another cluster or user would be taken than the one that was to be named here.
            raise UsageError(f"{key} is empty: give it, or leave it out.")
    if not isinstance(auth.get("kubeconfig", ""), str | dict):
        raise UsageError("kubeconfig is neither a path nor a dictionary: give one of them.")


def _check_pair(spec: Mapping[str, Any]) -> None:
    certificate, key = ("cert_file", "client_cert"), ("key_file", "client_key")
    for (given, one), (missing, other) in ((certificate, key), (key, certificate)):
        if spec.get(given) and not spec.get(missing):
            raise UsageError(f"{one} is given without {other}: give both, which may be the same file.")


def _named(key: str, auth: Mapping[str, Any], environment: bool, otherwise: str) -> str:
    """Where the value of an option came from, in a message's words."""
    if key in auth:
        return key
    variable = f"K8S_AUTH_{key.upper()}"
    return variable if environment and os.environ.get(variable) else otherwise


def _why_insecure(auth: Mapping[str, Any]) -> str:
    """What in the environment turned verification off, where the options don't say."""
    if "validate_certs" in auth or not os.environ.get("K8S_AUTH_VERIFY_SSL"):
        return ""
    # AWX's own credential type does so where it has no certificate authority, even if "Verify SSL" is on.
    return "K8S_AUTH_VERIFY_SSL is off, as a credential of AWX without a certificate authority sets it"


def _explicit(auth: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an endpoint that stands for itself, as `kubernetes.core` wants them."""
    proofs = (("api_key",), ("username", "password"), ("client_cert", "client_key"))
    enough = auth.keys() & {"kubeconfig", "context"} or any(auth.keys() >= {*each} for each in proofs)
    if not enough:
        # Else credentials of the default kubeconfig, which are for another server, would go to this host.
        raise UsageError(
            f"An endpoint with the host {auth.get('host')} of its own needs credentials of its own: give its "
            "api_key, client_cert and client_key, or kubeconfig."
        )
    return {true: auth[name] for true, name in AUTH_ARG_MAP.items() if name in auth}


def _impersonation(auth: Mapping[str, Any]) -> dict[str, Any]:
    return {header: auth[key] for header, key in _IMPERSONATION.items() if auth.get(key)}


def _path(auth: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The kubeconfig's path, or its content, or None for the one in the home directory."""
    path = auth.get("kubeconfig") or os.environ.get("K8S_AUTH_KUBECONFIG") or os.environ.get("KUBECONFIG")
    return os.path.expanduser(path) if isinstance(path, str) else path


def _kubeconfig(auth: Mapping[str, Any]) -> str:
    """The kubeconfig in a message's words."""
    path = _path(auth)
    if not isinstance(path, str):
        return "kubeconfig"
    # In two pieces: `kubernetes.core` has the option as a secret, since it may be the content itself, so
    # Ansible would put stars in place of the whole path.
    return f"kubeconfig {_in_two(path)}"


def _in_two(path: str) -> str:
    folder, file = os.path.split(path)
    return f"{file} in {os.path.join(os.getcwd(), folder).rstrip('/') or '/'}"


def _named_inside(exc: Exception, path: object) -> str:
    """The file that the kubeconfig names and that can't be read, if it is that; else empty."""
    missing = str(exc).partition("File does not exist: ")[2]
    file = str(exc.filename or "") if isinstance(exc, OSError) else missing
    own = path if isinstance(path, str) else kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    return "" if file in {os.path.expanduser(each) for each in own.split(os.pathsep)} else file


def _require_user(spec: Mapping[str, Any], auth: Mapping[str, Any], said: list[str]) -> None:
    """Raises an error where a kubeconfig gave no credentials since its plugin failed, as `said`, or has no user."""
    user, users = _user(spec)
    file = _kubeconfig(auth)
    if said:
        raise Unauthorized(
            f"The credential plugin of user {user} in {file} failed, for {why(said[-1])}: run it by itself, as the "
            "user and on the host that run the task."
        )
    if user and user not in {each["name"] for each in users}:
        raise UsageError(f"The {file} has no user {user!r}, which the context names: correct it there.")


def _user(spec: Mapping[str, Any]) -> tuple[str | None, Sequence[Any]]:
    """The name of the user that the context of a kubeconfig names, and the users that are there."""
    given = spec.get("kubeconfig") or kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    content = given if isinstance(given, dict) else kube_config.KubeConfigMerger(given).config.value
    loader = kube_config.KubeConfigLoader(content, active_context=spec.get("context"))
    return loader.current_context["context"].get("user"), content.get("users") or ()


def _unusable(exc: Exception, auth: Mapping[str, Any]) -> KubeferryError:
    """A sentence for what the configuration loader said. Its own text may quote the file, tokens included."""
    path, name = _path(auth), _kubeconfig(auth)
    kind, text = type(exc).__name__, str(exc)
    if file := _named_inside(exc, path):
        reason = exc.strerror if isinstance(exc, OSError) else os.strerror(errno.ENOENT)
        return UsageError(
            f"The {name} names {_in_two(file)}, which can't be read ({reason}): correct it there."
        )
    if isinstance(exc, IsADirectoryError):
        return UsageError(f"The {name} is a directory: give a file.")
    if isinstance(exc, FileNotFoundError) or "does not exist" in text or "No configuration found" in text:
        if isinstance(path, str) and not os.path.isabs(path):
            return UsageError(
                f"There is no usable {name}, where Ansible runs this module: give its absolute path."
            )
        return UsageError(f"There is no usable {name}: check its path, or give host and api_key.")
    if "context" in text.lower() and ("Expected" in text or "not found" in text.lower()):
        context = auth.get("context") or os.environ.get("K8S_AUTH_CONTEXT")
        if not context:
            return UsageError(
                f"The {name} names no current context that it has: mend the file, or give context."
            )
        return UsageError(f"The {name} has no context {context!r}: check its name.")
    if isinstance(exc, PermissionError):
        return UsageError(f"The {name} can't be read: check its permissions.")
    if isinstance(exc, AttributeError | KeyError | TypeError | ValueError) or kind in _YAML_ERRORS:
        return UsageError(f"The {name} isn't a valid kubeconfig ({_UNLIKE.get(kind, kind)}): check the file.")
    if "Invalid kube-config" in text:
        # What comes after "in" may be the whole entry of a user.
        said = text.splitlines()[0].removeprefix("Invalid kube-config. ").partition(" in ")[0]
        said = said.replace(f"{path} ", "")
        return UsageError(f"The {name} isn't a valid kubeconfig ({said[:200].rstrip('.')}): check the file.")
    return UsageError(
        f"The options for the API server can't be used ({kind}): check {name}, host and api_key."
    )


@dataclass(frozen=True)
class Way:
    """The way to an API server. `token` and `why_insecure` are words for messages."""

    base: str  # scheme, host, port and path prefix, without a slash at the end
    proxy: Proxy | None
    token: str
    why_insecure: str


@dataclass(frozen=True)
class Certificates:
    """Certificates and keys, in memory: for requests to the API server, and for exec streams."""

    requests: ssl.SSLContext
    streams: ssl.SSLContext


class Cluster(ClusterApi):
    """One API server, and who we are there. Safe to use from several threads."""

    def __init__(
        self,
        configuration: Any,  # noqa: ANN401
        extra: Mapping[str, Any],
        way: Way,
        certificates: Certificates | None,
        token_file: TokenFile | None,
    ) -> None:
        self._configuration = configuration
        self._extra = extra
        self._way = way
        self._certificates = certificates
        self._token_file = token_file
        self._thread = threading.local()
        self._refreshing = threading.Lock()
        self._negotiated = Negotiated()
        super().__init__(Rest(way.base, self._headers, self._send, str(way.proxy or "")))
        self.warnings: list[str] = []
        if way.base.startswith("https") and not configuration.verify_ssl:
            self.warnings.append(
                f"The certificate of the API server {self.server} isn't verified "
                f"({way.why_insecure or 'validate_certs is off'}): "
                "anyone on the way could read the credentials and the files."
            )
        if in_the_clear(way.base):
            self.warnings.append(
                f"The way to the API server {self.server} has no TLS, since its address begins with http://: "
                "anyone on the way could read the credentials and the files."
            )

    def runner(
        self, namespace: str, pod: str, container: str = "", limits: Limits | None = None
    ) -> ExecRunner:
        """Runs commands in `container` of the pod; in its only one if empty."""
        target = Target(
            namespace, pod, container, functools.partial(self.state_of, namespace, pod, container)
        )
        return ExecRunner(target, self._access, self._negotiated, limits)

    def _access(self) -> Access:
        headers = tuple(f"{name}: {value}" for name, value in self._headers())
        tls = self._certificates.streams if self._certificates else None
        return Access(self._way.base, headers, tls, self._server_name(), self._way.proxy, self._renew)

    def _renew(self) -> None:
        """After a refusal: have a token that is in a file read anew, which may have been replaced just now."""
        if self._token_file:
            with self._refreshing:
                self._token_file.expire()

    def _headers(self) -> Headers:
        """Fresh headers: a token that has expired is fetched anew by the configuration's hook."""
        try:
            with self._refreshing:
                settings = self._configuration.auth_settings()
        except KubeferryError:
            raise  # a signal's, which may come while a credential plugin runs
        except Exception as exc:  # noqa: BLE001 -- credential plugins fail in their own ways
            raise Unauthorized(
                f"The credentials for {self.server} can't be renewed ({type(exc).__name__}): "
                "check the credential plugin."
            ) from None
        found = [each["value"] for each in settings.values() if each.get("in") == "header" and each["value"]]
        if not found and self._configuration.username:
            found = [basic(self._configuration.username, self._configuration.password or "")]
        headers: Headers = [("User-Agent", "kubeferry.pvc")]
        headers += [("Authorization", authorization(value, self._way.token)) for value in found[:1]]
        for name, value in self._extra.items():
            each = value if isinstance(value, list) else [value]
            headers += [(name, text(one, _IMPERSONATION[name])) for one in each]
        return headers

    def _send(self, method: str, url: str, headers: Headers, body: bytes | None, timeout: float) -> Response:
        response = self._sent(method, url, headers, body, timeout)
        if response.status != 401:
            return response
        self._renew()
        proof = dict(self._headers()).get("Authorization", "")
        renewed = [(name, proof if name == "Authorization" else value) for name, value in headers]
        return response if renewed == headers else self._sent(method, url, renewed, body, timeout)

    def _sent(self, method: str, url: str, headers: Headers, body: bytes | None, timeout: float) -> Response:
        pool = getattr(self._thread, "pool", None)
        if pool is None:
            pool = self._thread.pool = self._pool()
        response: Response = pool.request(
            method,
            url,
            headers=HTTPHeaderDict(headers),
            body=body,
            timeout=urllib3.Timeout(connect=min(timeout, 20.0), read=timeout),
            retries=False,
            redirect=False,
        )
        return response

    def forget_connections(self) -> None:
        """Close this thread's connections, as a forked process must; the next request opens a new one."""
        pool = getattr(self._thread, "pool", None)
        if pool is not None:
            pool.clear()

    def _pool(self) -> urllib3.PoolManager:
        """A connection pool of this thread's own, with the same TLS settings as for exec."""
        config = self._configuration
        if not config.verify_ssl:
            # We warn ourselves, once.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        options: dict[str, Any] = {"ssl_context": self._certificates and self._certificates.requests}
        if self._server_name():
            options["server_hostname"] = options["assert_hostname"] = self._server_name()
        elif config.assert_hostname is False:
            options["assert_hostname"] = False
        proxy = self._way.proxy
        if proxy is None:
            return urllib3.PoolManager(**options)
        if proxy.scheme == "http":
            return urllib3.ProxyManager(proxy.url, proxy_headers=proxy.headers, **options)
        from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 -- needs PySocks, which few have

        return SOCKSProxyManager(proxy.url, proxy.user or None, proxy.password or None, **options)

    def _server_name(self) -> str | None:
        name = getattr(self._configuration, "tls_server_name", None) or self._configuration.assert_hostname
        return name if isinstance(name, str) else None
