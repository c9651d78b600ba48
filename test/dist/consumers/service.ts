// Compiled as an ES module, as CommonJS and for a bundler, against the packed declarations.
import { CertError, RenewalScheduler, type AnyCertError, type Deployer } from 'evercert'
import { acmeIssuer, letsEncrypt } from 'evercert/issuers/acme'
import { webrootSolver } from 'evercert/solvers/webroot'
import { fileStore } from 'evercert/stores/file'
import { haproxyDeployer } from 'evercert/deployers/haproxy'

const uploader: Deployer = {
  name: 'my-cdn',
  scope: 'cluster',
  async deploy(bundle, { signal }) {
    signal.throwIfAborted()
    await Promise.resolve(bundle.privateKey.exportPem())
    return { status: 'deployed' }
  },
}

export const scheduler = new RenewalScheduler({
  store: fileStore({ directory: '/var/lib/evercert' }),
  certificates: [
    {
      name: 'www',
      identifiers: ['www.example.com', 'example.com'],
      issuers: [
        acmeIssuer({
          directory: letsEncrypt.staging,
          termsOfServiceAgreed: true,
          solvers: [webrootSolver({ directory: '/var/www/acme' })],
        }),
      ],
      deployers: [
        haproxyDeployer({ pemPath: '/etc/haproxy/certs/www.pem', runtimeSocket: '/run/haproxy/admin.sock' }),
        uploader,
      ],
      endpoints: [{ host: 'www.example.com', port: 443 }],
    },
  ],
})

scheduler.on('issuance-failed', ({ certificate, error }) => {
  if (CertError.isInstance(error)) console.warn(certificate, explain(error))
})

function explain(error: AnyCertError): string {
  switch (error.code) {
    case 'ERR_ACME_RATE_LIMITED':
      return error.retryAt?.toISOString() ?? 'later'
    case 'ERR_HTTP_STATUS':
      return `${error.method} ${error.url}`
    default:
      return error.message
  }
}
