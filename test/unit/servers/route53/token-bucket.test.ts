import { expect, test } from 'vitest'
import { tokenBucket } from '../../../servers/route53/token-bucket.js'

test('a bucket is full at first and refilled evenly, up to what it holds', () => {
  const bucket = tokenBucket({ perSecond: 5 })
  const taken = (now: number): number => {
    let count = 0
    while (bucket.take(now)) count += 1
    return count
  }
  expect(taken(0)).toBe(5)
  expect(taken(199)).toBe(0)
  expect(taken(200)).toBe(1)
  expect(taken(1_200)).toBe(5)
  expect(taken(60_000)).toBe(5)
})

test('several tokens are taken together or not at all', () => {
  const bucket = tokenBucket({ perSecond: 1, burst: 10 })
  expect(bucket.take(0, 8)).toBe(true)
  expect(bucket.take(0, 3)).toBe(false)
  expect(bucket.take(0, 2)).toBe(true)
})
