/**
 * What a DC/OS account needs.
 *
 * @module
 */

/** One permission of DC/OS: `dcos security org users grant <account> <resource> <action>`. */
export interface MarathonPermission {
  readonly resource: string
  readonly action: 'read' | 'update' | 'full'
  /** What fails without it. */
  readonly why: string
}

/**
 * The permissions for these URLs and this app.
 *
 * @see {@link https://github.com/mesosphere/dcos-docs-site/blob/staging/pages/mesosphere/dcos/2.1/security/ent/perms-reference/index.md | DC/OS permissions reference}
 */
export function marathonPermissions(settings: {
  readonly urls: readonly string[]
  readonly appId: string
}): readonly MarathonPermission[] {
  const { urls, appId } = settings
  const services = [...new Set(urls.flatMap((url) => adminRouterService(url) ?? []))]
  // Marathons that run on Marathon are services of their own; without a path it is the cluster's.
  const instances = services.length > 0 ? services : ['marathon']
  return [
    ...services.map((service) => ({
      resource: `dcos:adminrouter:service:${service}`,
      action: 'full' as const,
      why: 'to reach Marathon through Admin Router',
    })),
    ...instances.flatMap((instance) => {
      const prefix = `dcos:service:marathon:${instance}`
      const app = `${prefix}:services:${appId}`
      return [
        { resource: app, action: 'read' as const, why: 'to read the app and its deployments' },
        { resource: app, action: 'update' as const, why: 'to change the variable, and to restart or roll back' },
        {
          resource: `${prefix}:admin:events`,
          action: 'read' as const,
          why: 'to notice the end of a deployment sooner; without it Marathon is polled',
        },
      ]
    }),
  ]
}

/** `marathon` for `https://cluster/service/marathon`, and for the older `https://cluster/marathon`. */
function adminRouterService(url: string): string | undefined {
  const { pathname } = new URL(url)
  const service = /^\/service\/(.+)$/.exec(pathname)?.[1]
  return service ?? (pathname === '/marathon' ? 'marathon' : undefined)
}
