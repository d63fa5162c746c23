// A service that answers only what Outrider permitted: node service.mjs ORIGIN JWKS_URL [PORT]

import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const [origin, jwksUrl, port] = process.argv.slice(2)
const keys = createRemoteJWKSet(new URL(jwksUrl))
const seen = new Map()

/** The claims of the assertion, if it is about exactly this request and was not used before. */
async function verify(method, target, assertion, body) {
  const { payload } = await jwtVerify(assertion, keys, {
    algorithms: ['EdDSA', 'ES256'],
    audience: origin,
    typ: 'outrider-assertion+jwt',
    requiredClaims: ['exp', 'iat', 'jti'],
  })
  const digest = createHash('sha256').update(body).digest('base64url')
  if (payload.htm !== method || payload.htu !== origin + target) throw new Error('for another request')
  if (payload.bsh !== digest) throw new Error('for another body')
  const now = Date.now() / 1000
  for (const [jti, exp] of seen) if (exp <= now) seen.delete(jti)
  if (seen.has(payload.jti)) throw new Error('used before')
  seen.set(payload.jti, payload.exp)
  return payload
}

const service = createServer(async (request, response) => {
  const pieces = []
  for await (const piece of request) pieces.push(piece)
  const assertion = request.headers['outrider-assertion'] ?? ''
  let [status, said] = [200, {}]
  try {
    const claims = await verify(request.method, request.url, assertion, Buffer.concat(pieces))
    said = { hello: claims.iss, for: claims.sub, tool: claims.tool }
  } catch (error) {
    [status, said] = [401, { refused: error.message }]
  }
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(said))
})
service.listen(Number(port ?? new URL(origin).port), '127.0.0.1')
