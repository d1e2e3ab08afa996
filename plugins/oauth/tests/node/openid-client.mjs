// openid-client, as an ordinary web application uses it to let people log in.
import * as client from "openid-client";
import { ask, check, fails, say, told } from "./talking.mjs";

const config = await client.discovery(new URL(told.issuer), told.job, told.secret, undefined, {
  execute: [client.allowInsecureRequests],
});
client.enableNonRepudiationChecks(config); // the signature of the ID token, by the published keys

async function login(extra = {}) {
  const verifier = client.randomPKCECodeVerifier();
  const state = client.randomState();
  const nonce = client.randomNonce();
  const url = client.buildAuthorizationUrl(config, {
    redirect_uri: told.back,
    scope: "openid profile inference usage",
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
    ...extra,
  });
  const back = new URL(await ask({ open: url.href }));
  const checks = { pkceCodeVerifier: verifier, expectedState: state, expectedNonce: nonce, maxAge: 600 };
  return { back, checks, tokens: await client.authorizationCodeGrant(config, back, checks) };
}

const { back, checks, tokens } = await login({ max_age: "600" });
check(tokens.claims().sub === "ann", "the subject is ann");
check((await client.fetchUserInfo(config, tokens.access_token, "ann")).name === "Ann", "the name is Ann");
const models = await client.fetchProtectedResource(
  config, tokens.access_token, new URL(`${told.issuer}/v1/models`), "GET",
);
check(models.status === 200, "the token opens the gateway");

const renewed = await client.refreshTokenGrant(config, tokens.refresh_token, { scope: "openid inference" });
check(renewed.scope === "openid inference", "a refresh may ask for less");
await fails(client.refreshTokenGrant(config, renewed.refresh_token, { scope: "openid admin" }), "invalid_scope");
check((await client.tokenIntrospection(config, renewed.access_token)).active, "the new token is active");

// The code again: everything that it gave ends.
await fails(client.authorizationCodeGrant(config, back, checks), "invalid_grant");
check(!(await client.tokenIntrospection(config, renewed.access_token)).active, "a replay ends the grant");

const another = await login();
await client.tokenRevocation(config, another.tokens.access_token);
check(!(await client.tokenIntrospection(config, another.tokens.access_token)).active, "it is revoked");
const own = await client.clientCredentialsGrant(config, { scope: "inference", resource: `${told.issuer}/v1` });
check(own.expires_in === 3600, "an hour");
say({ done: true });
