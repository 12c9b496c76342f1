// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright: the kubeferry.pvc contributors

// An OpenID Connect provider on loopback, with the login form that oidc-provider has for development: whatever name is
// typed in is the user. usage: node provider.mjs PORT CERTIFICATE KEY REDIRECT_URI

import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import Provider from "oidc-provider";

const [port, certificate, key, redirectUri] = process.argv.slice(2);

const provider = new Provider(`https://127.0.0.1:${port}`, {
  clients: [{ client_id: "kubeferry", token_endpoint_auth_method: "none", redirect_uris: [redirectUri], grant_types: ["authorization_code"], response_types: ["code"] }],
  claims: { openid: ["sub"], profile: ["preferred_username"] },
  conformIdTokenClaims: false, // the API server reads the name in the ID token
  cookies: { keys: ["only for tests"] },
  pkce: { required: () => true, methods: ["S256"] },
  ttl: { IdToken: () => Number(process.env.TTL ?? 600), AccessToken: 600, Grant: 600, Session: 600, Interaction: 600 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id }) }),
});

createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, provider.callback()).listen(Number(port), "127.0.0.1", () => console.log("ready"));
