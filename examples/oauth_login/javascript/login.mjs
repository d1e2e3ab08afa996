// Log in at a gateway with a browser, and call it: authorization code with PKCE, with nothing but Node (20 or newer).
//
//     node login.mjs https://gateway.example.com CLIENT_ID
//
// The client is a public one with the redirect URI http://127.0.0.1/callback; its port is free (RFC 8252, 7.3).
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";

async function json(url, options) {
  const answer = await fetch(url, options);
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.json();
}

// A server on this machine, to which the browser comes back.
async function callback() {
  let arrived;
  const parameters = new Promise((resolve) => (arrived = resolve));
  const server = createServer((request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    response.end("You can close this page.");
    if (url.searchParams.has("code") || url.searchParams.has("error")) arrived(url.searchParams);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { uri: `http://127.0.0.1:${server.address().port}/callback`, parameters, close: () => server.close() };
}

async function login(issuer, clientId) {
  const known = await json(`${issuer}/.well-known/oauth-authorization-server`);
  if (known.issuer !== issuer) throw new Error("this is the metadata of another server");
  const verifier = randomBytes(48).toString("base64url");
  const state = randomBytes(16).toString("base64url");
  const { uri, parameters, close } = await callback();
  const url = new URL(known.authorization_endpoint);
  url.search = new URLSearchParams({
    response_type: "code",
    client_id: clientId,
    redirect_uri: uri,
    scope: "inference usage",
    code_challenge: createHash("sha256").update(verifier).digest("base64url"),
    code_challenge_method: "S256",
    state,
  });
  console.log(`Open this address:\n${url}`);
  const answer = await parameters;
  close();
  if (answer.get("state") !== state || answer.get("iss") !== issuer) {
    throw new Error("this answer belongs to another request");
  }
  if (answer.has("error")) throw new Error(`not logged in: ${answer.get("error")}`);
  const body = new URLSearchParams({
    grant_type: "authorization_code",
    code: answer.get("code"),
    redirect_uri: uri,
    client_id: clientId,
    code_verifier: verifier,
  });
  return json(known.token_endpoint, { method: "POST", body });
}

const [issuer, clientId] = process.argv.slice(2);
const tokens = await login(issuer, clientId);
console.log(`Logged in for ${tokens.expires_in} s.`);
const models = await json(`${issuer}/v1/models`, { headers: { authorization: `Bearer ${tokens.access_token}` } });
for (const model of models.data) console.log(model.id);
