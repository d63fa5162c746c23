// An authorization server of npm's `oidc-provider`: client credentials by private_key_jwt, JWT access tokens for a
// resource (RFC 8707, RFC 9068).
//
//   provider.mjs PORT CLIENTS.json SECONDS     CLIENTS: a list of {client_id, alg, jwks}; SECONDS: life of a token

import { readFileSync } from 'node:fs'
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { Provider } from 'oidc-provider'

const [port, clients, seconds] = process.argv.slice(2)
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' })
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: JSON.parse(readFileSync(clients)).map(({ client_id, alg, jwks }) => ({
    client_id,
    jwks,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: alg,
    id_token_signed_response_alg: 'ES256',
  })),
  jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'ES256' }] },
  clientAuthMethods: ['private_key_jwt'],
  scopes: ['notes', 'admin'],
  ttl: { ClientCredentials: Number(seconds) },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'notes', audience: resource, accessTokenTTL: Number(seconds), accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
})
provider.on('grant.success', () => console.log('issued'))
provider.on('grant.error', (_, error) => console.log('refused', error.error, error.error_detail ?? error.error_description))
provider.listen(Number(port), '127.0.0.1')
