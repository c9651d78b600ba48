import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createSecureContext } from 'node:tls'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { createKeystore } from '../../../src/core/pkcs12.js'
import { keyAlgorithms } from '../../../src/core/private-key.js'
import { createTestBundle } from '../../../src/testing/test-bundle.js'

const options = { password: 'change it: {"$\'}~', alias: 'certificate' }

describe('createKeystore', () => {
  it.each(keyAlgorithms.filter((algorithm) => algorithm !== 'rsa-4096'))('holds a key of type %s that Node reads', async (keyAlgorithm) => {
    const keystore = await createKeystore(await createTestBundle({ keyAlgorithm }), options)
    expect(() => createSecureContext({ pfx: keystore, passphrase: options.password })).not.toThrow()
    expect(() => createSecureContext({ pfx: keystore, passphrase: 'changeit' })).toThrow(/mac verify failure/i)
  })
})
