// An OpenID Connect provider for tests: the npm package oidc-provider with accounts that a test sets.
// Standard input is the configuration in JSON; the address goes to standard output when it listens.
//
//   {"clients": […], "accounts": {"alice": {"preferred_username": "alice", "groups": ["devs"]}}}
//
// PUT /test/accounts replaces the accounts. Everything else is the provider's.
import http from 'node:http'
import { Provider } from 'oidc-provider'

process.stdin.setEncoding('utf8')
const text = await new Promise((resolve) => {
  let line = ''
  process.stdin.on('data', (chunk) => {
    line += chunk
    if (line.includes('\n')) resolve(line)
  })
})
const { port, clients, accounts: first } = JSON.parse(text)
let accounts = first
const issuer = `http://127.0.0.1:${port}`

const provider = new Provider(issuer, {
  clients,
  conformIdTokenClaims: false,
  claims: {
    openid: ['sub', 'sid'],
    profile: ['preferred_username', 'name', 'groups'],
    email: ['email', 'email_verified'],
  },
  cookies: { keys: ['only for tests'] },
  pkce: { required: () => true },
  // Its guard against requests to addresses of this machine is for others: here all is on this machine.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    backchannelLogout: { enabled: true },
    rpInitiatedLogout: { enabled: true },
  },
  ttl: { AccessToken: 600, AuthorizationCode: 60, DeviceCode: 600, Grant: 3600, IdToken: 600, Interaction: 600, Session: 3600 },
  async findAccount(ctx, id) {
    if (!accounts[id]) return undefined
    return { accountId: id, claims: async () => ({ sub: id, ...accounts[id] }) }
  },
})

provider.on('backchannel.error', (ctx, error) => console.error('back-channel logout:', error))

const serve = provider.callback()
const server = http.createServer(async (request, response) => {
  if (request.url !== '/test/accounts') return serve(request, response)
  let body = ''
  for await (const chunk of request) body += chunk
  accounts = JSON.parse(body)
  response.writeHead(204).end()
})
server.listen(port, '127.0.0.1', () => console.log(issuer))
// It ends with whoever started it.
process.stdin.on('end', () => process.exit(0))
