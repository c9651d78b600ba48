/**
 * What differs between releases of Marathon. The defaults are those of 1.10.
 */

export interface Features {
  /** As `/v2/info` reports it. @defaultValue '1.10.26' */
  readonly version: string
  /** `PATCH /v2/apps/{id}`, since 1.4; before: 405. @defaultValue true */
  readonly patch: boolean
  /** The `Marathon-Deployment-Id` header, since 1.4. @defaultValue true */
  readonly deploymentIdHeader: boolean
  /**
   * Fields that a partial update loses when it does not repeat them: the bug of 1.10 (and, for `executorResources`, 1.9).
   *
   * @defaultValue ['resourceLimits', 'executorResources']
   */
  readonly resetByPartialUpdate: readonly string[]
  /** Whether `version` beside other fields is refused; very old releases ignored the other fields. @defaultValue true */
  readonly refuseVersionWithOtherFields: boolean
  /** Requests for the list of deployments that do not show a new one yet (MARATHON-8566, before 1.8.180). @defaultValue 0 */
  readonly lateListings: number
  /** `?event_type=`, since 1.3.7; before: ignored. @defaultValue true */
  readonly eventFilter: boolean
  /** Plans in events carry the whole definitions unless `plan-format=light` is asked for, before 1.7. @defaultValue false */
  readonly heavyPlans: boolean
  /** `reason` in `deployment_failed`, since about 1.8. @defaultValue true */
  readonly failureReason: boolean
  /** Events that may wait for a slow consumer before it is cut off, since 1.8. @defaultValue 1024 */
  readonly eventBuffer: number
  /** @defaultValue 100 */
  readonly maxRunningDeployments: number
}

export const release110: Features = {
  version: '1.10.26',
  patch: true,
  deploymentIdHeader: true,
  resetByPartialUpdate: ['resourceLimits', 'executorResources'],
  refuseVersionWithOtherFields: true,
  lateListings: 0,
  eventFilter: true,
  heavyPlans: false,
  failureReason: true,
  eventBuffer: 1024,
  maxRunningDeployments: 100,
}
