// oauth4webapi, which checks every answer strictly, through all that the server offers.
import * as oauth from "oauth4webapi";
import { ask, check, say, told } from "./talking.mjs";

const insecure = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(told.issuer);

for (const algorithm of ["oauth2", "oidc"]) {
  await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }));
}
const as = await oauth.processDiscoveryResponse(
  issuer,
  await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...insecure }),
);
const resource = new URL(`${told.issuer}/v1`);
const found = await oauth.processResourceDiscoveryResponse(
  resource,
  await oauth.resourceDiscoveryRequest(resource, insecure),
);
check(found.authorization_servers.includes(as.issuer), "the resource names the server");

async function code(client, auth, extra, options = {}) {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const nonce = oauth.generateRandomNonce();
  const url = new URL(as.authorization_endpoint);
  for (const [name, value] of Object.entries({
    client_id: client.client_id,
    redirect_uri: told.back,
    response_type: "code",
    scope: "openid profile inference",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    nonce,
    ...extra,
  })) {
    url.searchParams.set(name, value);
  }
  const back = new URL(await ask({ open: url.href }));
  const parameters = oauth.validateAuthResponse(as, client, back, state);
  const answer = await oauth.authorizationCodeGrantRequest(as, client, auth, parameters, told.back, verifier, {
    ...insecure,
    ...options,
  });
  return oauth.processAuthorizationCodeResponse(as, client, answer, { expectedNonce: nonce, requireIdToken: true });
}

// A public client: code, ID token, userinfo, refresh, revocation.
const client = { client_id: told.public };
const tokens = await code(client, oauth.None(), {});
const claims = oauth.getValidatedIdTokenClaims(tokens);
check(claims.sub === "ann", "the subject is ann");
const info = await oauth.userInfoRequest(as, client, tokens.access_token, insecure);
check((await oauth.processUserInfoResponse(as, client, "ann", info)).name === "Ann", "the name is Ann");
const models = await oauth.protectedResourceRequest(
  tokens.access_token, "GET", new URL(`${told.issuer}/v1/models`), undefined, undefined, insecure,
);
check(models.status === 200, "the token opens the gateway");

// The access token is one of RFC 9068 for another resource server, too.
const request = new Request(told.issuer, { headers: { authorization: `Bearer ${tokens.access_token}` } });
const access = await oauth.validateJwtAccessToken(as, request, told.issuer, insecure);
check(access.client_id === told.public, "the token names its client");

const renewed = await oauth.processRefreshTokenResponse(
  as, client, await oauth.refreshTokenGrantRequest(as, client, oauth.None(), tokens.refresh_token, insecure),
);
check(renewed.refresh_token !== tokens.refresh_token, "refresh tokens rotate");
await oauth.processRevocationResponse(
  await oauth.revocationRequest(as, client, oauth.None(), renewed.refresh_token, insecure),
);
try {
  await oauth.protectedResourceRequest(
    renewed.access_token, "GET", new URL(`${told.issuer}/v1/models`), undefined, undefined, insecure,
  );
  check(false, "a revoked token is refused");
} catch (error) {
  check(error instanceof oauth.WWWAuthenticateChallengeError, `a challenge: ${error}`);
  check(error.cause[0].parameters.error === "invalid_token", "the challenge names the error");
  check(error.cause[0].parameters.resource_metadata.endsWith("/v1"), "the challenge names the metadata");
}

// A confidential client on its own, and introspection.
const job = { client_id: told.job };
for (const auth of [oauth.ClientSecretBasic(told.secret), oauth.ClientSecretPost(told.secret)]) {
  const own = await oauth.processClientCredentialsResponse(
    as, job, await oauth.clientCredentialsGrantRequest(as, job, auth, { scope: "inference" }, insecure),
  );
  const worth = await oauth.processIntrospectionResponse(
    as, job, await oauth.introspectionRequest(as, job, auth, own.access_token, insecure),
  );
  check(worth.active && worth.sub === told.job, "its own token is active");
}

// A token that is bound to a key.
const pair = await oauth.generateKeyPair("ES256");
const DPoP = oauth.DPoP(client, pair);
const bound = await code(client, oauth.None(), { dpop_jkt: await DPoP.calculateThumbprint() }, { DPoP });
check(bound.token_type === "dpop", "the token is bound");
const proved = await oauth.protectedResourceRequest(
  bound.access_token, "GET", new URL(`${told.issuer}/v1/models`), undefined, undefined, { DPoP, ...insecure },
);
check(proved.status === 200, "with a proof it opens the gateway");

// A device.
const device = { client_id: told.device };
const codes = await oauth.processDeviceAuthorizationResponse(
  as, device, await oauth.deviceAuthorizationRequest(as, device, oauth.None(), { scope: "inference" }, insecure),
);
await ask({ connect: codes.verification_uri_complete });
const connected = await oauth.processDeviceCodeResponse(
  as, device, await oauth.deviceCodeGrantRequest(as, device, oauth.None(), codes.device_code, insecure),
);
check(connected.access_token, "the device has a token");

// A client that registers itself.
const registered = await oauth.processDynamicClientRegistrationResponse(
  await oauth.dynamicClientRegistrationRequest(
    as, { redirect_uris: [told.back], token_endpoint_auth_method: "none", client_name: "Stranger" }, insecure,
  ),
);
const stranger = await code(registered, oauth.None(), {});
check(stranger.access_token, "a stranger with a consent has a token");
say({ done: true });

