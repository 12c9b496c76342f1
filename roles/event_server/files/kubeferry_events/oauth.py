# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the kubeferry.pvc contributors
"""The OAuth 2.0 client behind /login: authorization code with PKCE, at an OpenID Connect issuer or OpenShift's server.

Authlib and joserfc do the protocol; here are the requests and what is made of the answers.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlsplit

import aiohttp
from authlib.oauth2.rfc6749.errors import OAuth2Error
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from .cluster import Cluster, tls_context
from .errors import LoginError
from .settings import LoginSettings, is_loopback

# Asymmetric signatures alone: with HS256 the client secret, or a public key, could sign a token.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
LEEWAY = 60
FRESH_SECONDS = 600.0
DEFAULT_SCOPES = {"oidc": "openid profile email", "openshift": "user:full"}
TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=10)


@dataclass(frozen=True)
class Identity:
    """Who signed in, with the token that the Kubernetes API server takes from them. `expires` is a Unix time.

    `revocable` is the token that the issuer makes useless at sign-out, empty where it makes none so.
    """

    user: str
    token: str = field(repr=False)
    expires: float
    revocable: str = field(repr=False)


class OAuthClient:
    """Talks to one issuer. Raises LoginError, whose text holds no token, code or secret."""

    def __init__(self, settings: LoginSettings, cluster: Cluster | None) -> None:
        self._settings, self._cluster = settings, cluster
        self._session: aiohttp.ClientSession | None = None
        self._metadata: tuple[float, dict[str, Any]] | None = None

    async def open(self) -> None:
        tls: ssl.SSLContext = tls_context(self._settings.ca, "KUBEFERRY_OIDC_CA")
        if (
            not self._settings.ca
            and self._settings.kind == "openshift"
            and self._cluster
            and self._cluster.tls
        ):
            tls = self._cluster.tls
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=TIMEOUT,
            trust_env=False,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where to send the browser."""
        metadata = await self._discover()
        kind = self._settings.kind
        return str(
            prepare_grant_uri(
                metadata["authorization_endpoint"],
                client_id=self._settings.client_id,
                response_type="code",
                redirect_uri=redirect_uri,
                scope=self._settings.scopes or DEFAULT_SCOPES[kind],
                state=state,
                nonce=nonce if kind == "oidc" else None,
                code_challenge=create_s256_code_challenge(verifier),
                code_challenge_method="S256",
            )
        )

    async def exchange(self, code: str, redirect_uri: str, verifier: str, nonce: str) -> Identity:
        """Trade the code for tokens, and find out whose they are."""
        metadata = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._settings.client_id,
        }
        answer = await self._json("POST", metadata["token_endpoint"], data=form, auth=self._auth())
        if self._settings.kind == "oidc":
            return await self._from_id_token(answer, nonce, metadata)
        return await self._from_access_token(answer)

    async def check_issuer(self, named: str | None) -> None:
        """RFC 9207: a response that names another issuer was mixed up with somebody else's."""
        if named is not None and named != (await self._discover()).get("issuer"):
            raise LoginError("the answer came from another issuer than the one that was asked")

    async def forget(self, token: str) -> None:
        """Make an identity's revocable token useless at its issuer; failing to is no error."""
        try:
            metadata = await self._discover()
            if self._settings.kind == "openshift" and self._cluster is not None:
                await self._delete_openshift_token(token)
            elif endpoint := metadata.get("revocation_endpoint"):
                form = {"token": token, "client_id": self._settings.client_id}
                async with self._open_session().post(
                    endpoint, data=form, auth=self._auth(), allow_redirects=False
                ):
                    pass
        except (LoginError, aiohttp.ClientError, TimeoutError, OSError):
            pass

    def _auth(self) -> aiohttp.BasicAuth | None:
        """How a client with a secret proves itself (RFC 6749 2.3.1). Form-urlencoded, since a name may have a colon."""
        if not self._settings.client_secret:
            return None
        return aiohttp.BasicAuth(
            quote_plus(self._settings.client_id), quote_plus(self._settings.client_secret)
        )

    async def _delete_openshift_token(self, token: str) -> None:
        # OpenShift names a token's object by its digest, so the token itself is in no URL.
        digest = hashlib.sha256(token.removeprefix("sha256~").encode()).digest()
        name = "sha256~" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
        url = f"{self._api()}/apis/oauth.openshift.io/v1/useroauthaccesstokens/{name}"
        async with self._open_session().delete(
            url, headers={"Authorization": f"Bearer {token}"}, ssl=self._api_tls()
        ):
            pass

    async def _from_id_token(self, answer: dict[str, Any], nonce: str, metadata: dict[str, Any]) -> Identity:
        raw = answer.get("id_token")
        if not isinstance(raw, str):
            raise LoginError("the issuer sent no ID token; the client needs the scope openid")
        keys = await self._json("GET", metadata["jwks_uri"])
        try:
            token = jwt.decode(raw, KeySet.import_key_set({"keys": keys["keys"]}), algorithms=ALGORITHMS)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": metadata["issuer"]},
                    "aud": {"value": self._settings.client_id},
                },
                {
                    "nonce": nonce,
                    "client_id": self._settings.client_id,
                    "access_token": answer.get("access_token"),
                },
            )
            claims.validate(leeway=LEEWAY)
            expires = float(claims["exp"])
        except (JoseError, OAuth2Error, ValueError, KeyError, TypeError, OverflowError) as error:
            raise LoginError(f"the ID token is not valid ({type(error).__name__})") from None
        name = next((claims[key] for key in ("preferred_username", "email", "sub") if claims.get(key)), "")
        return Identity(str(name)[:200], raw, expires, _revocable(answer, metadata))

    async def _from_access_token(self, answer: dict[str, Any]) -> Identity:
        token = answer.get("access_token")
        if not isinstance(token, str) or str(answer.get("token_type", "")).lower() != "bearer":
            raise LoginError("the OAuth server sent no bearer token")
        try:
            seconds = float(answer.get("expires_in") or 3600)
        except (TypeError, ValueError, OverflowError):
            seconds = 3600.0
        user = "signed in"
        try:
            said = await self._json(
                "GET",
                f"{self._api()}/apis/user.openshift.io/v1/users/~",
                headers={"Authorization": f"Bearer {token}"},
                ssl=self._api_tls(),
            )
            user = str(said["metadata"]["name"])[:200]
        except (LoginError, KeyError, TypeError):
            pass  # a scope that doesn't show the name is no reason to refuse
        return Identity(user, token, time.time() + seconds, token)

    async def _discover(self) -> dict[str, Any]:
        """The issuer's metadata (OpenID Connect Discovery, RFC 8414), kept for some minutes."""
        if self._metadata is not None and time.monotonic() - self._metadata[0] < FRESH_SECONDS:
            return self._metadata[1]
        if self._settings.kind == "openshift":
            url = f"{self._api()}/.well-known/oauth-authorization-server"
            metadata = await self._json("GET", url, ssl=self._api_tls())
            needed = ["issuer", "authorization_endpoint", "token_endpoint"]
        else:
            issuer = self._settings.issuer
            metadata = await self._json("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            needed = ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"]
            if metadata.get("issuer") != issuer:
                raise LoginError("the issuer calls itself by another name than KUBEFERRY_OIDC_ISSUER")
        if metadata.get("revocation_endpoint"):
            needed.append("revocation_endpoint")
        for name in needed:
            parts = urlsplit(str(metadata.get(name, "")))
            if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
                raise LoginError(f"the issuer's {name} is no https URL")
        methods = metadata.get("code_challenge_methods_supported")
        if methods is not None and "S256" not in methods:
            raise LoginError("the issuer does not support PKCE with S256")
        self._metadata = (time.monotonic(), metadata)
        return metadata

    def _api(self) -> str:
        if self._cluster is None:
            raise LoginError(
                "the server knows no Kubernetes API server: set KUBECONFIG or KUBEFERRY_KUBE_API where it runs"
            )
        return self._cluster.url

    def _api_tls(self) -> ssl.SSLContext | bool:
        return (self._cluster.tls if self._cluster else None) or True

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise LoginError("the server is stopping")
        return self._session

    async def _json(self, method: str, url: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 -- aiohttp's
        host = urlsplit(url).hostname
        try:
            async with self._open_session().request(
                method, url, allow_redirects=False, **options
            ) as response:
                document = await response.json(content_type=None) if response.status == 200 else None
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise LoginError(f"{host} can't be asked ({type(error).__name__})") from None
        if not isinstance(document, dict):
            raise LoginError(f"{host} answered with HTTP {status}")
        return document


def _revocable(answer: dict[str, Any], metadata: dict[str, Any]) -> str:
    """What an OpenID Connect issuer can revoke: with a refresh token its access tokens end too (RFC 7009 2.1)."""
    if not metadata.get("revocation_endpoint"):
        return ""
    tokens = (answer.get(name) for name in ("refresh_token", "access_token"))
    return next((token for token in tokens if token and isinstance(token, str)), "")
