import { describe, expect, it } from 'vitest'
import {
  assertArray,
  assertBoolean,
  assertDuration,
  assertFunction,
  assertHttpsUrl,
  assertMethod,
  assertNumber,
  assertOneOf,
  assertOptions,
  assertPath,
  assertText,
} from '../../../src/internal/options.js'

/** Every refusal is a TypeError that names the option, whatever was given. */
function refuses(check: (value: unknown) => void, value: unknown, option = '"theOption"'): void {
  let error: unknown
  try {
    check(value)
  } catch (caught) {
    error = caught
  }
  expect(error).toBeInstanceOf(TypeError)
  expect((error as TypeError).message).toContain(option)
  expect((error as TypeError).message).not.toMatch(/[\n\r\0]/)
}
const shapeless: readonly unknown[] = [
  undefined,
  null,
  Number.NaN,
  {},
  [],
  Symbol('x'),
  () => 1,
  1n,
  Object.create(null),
]

describe('assertOptions', () => {
  const known = ['directory', 'mode']

  it.each([{}, { directory: '/a' }, { directory: undefined }, { directory: '/a', mode: 1 }, Object.create(null)])(
    'accepts %j',
    (options) => {
      expect(() => {
        assertOptions(options, known, 'fileStore')
      }).not.toThrow()
    },
  )

  it.each([undefined, null, 'a', 7, true, [], [{ directory: '/a' }], () => ({})])(
    'refuses %s, which is no object',
    (options) => {
      refuses(
        (value) => {
          assertOptions(value, known, 'fileStore')
        },
        options,
        'fileStore',
      )
    },
  )

  it.each(['Directory', 'dir', 'mode ', '', 'constructor', 'toString'])('refuses the unknown option "%s"', (name) => {
    refuses(
      (value) => {
        assertOptions(value, known, 'fileStore')
      },
      { directory: '/a', [name]: undefined },
      `"${name}"`,
    )
  })

  it('refuses __proto__ as JSON brings it in', () => {
    refuses(
      (value) => {
        assertOptions(value, known, 'fileStore')
      },
      JSON.parse('{"__proto__":{"mode":1}}'),
      '"__proto__"',
    )
  })
})

describe('assertText', () => {
  it.each(['a', 'ü', '😀', ' ', 'x'.repeat(4096)])('accepts %j', (value) => {
    expect(() => {
      assertText(value, 'theOption')
    }).not.toThrow()
  })

  it.each([
    ...shapeless,
    '',
    7,
    true,
    'a\n',
    '\0',
    'a\tb',
    '\u007f',
    'a\u001b[31m',
    'a\ud800',
    'x'.repeat(4097),
    new String('a'),
  ])('refuses %o', (value) => {
    refuses((given) => {
      assertText(given, 'theOption')
    }, value)
  })

  it('takes another limit', () => {
    refuses((given) => {
      assertText(given, 'theOption', 3)
    }, 'abcd')
  })
})

describe('assertPath', () => {
  it.each(['/', '/var/lib/evercert', '/a b/ü', 'C:\\certs', 'c:/certs'])('accepts %j', (value) => {
    expect(() => {
      assertPath(value, 'theOption')
    }).not.toThrow()
  })

  it.each([
    ...shapeless,
    '',
    'certs',
    './certs',
    '../certs',
    '~/certs',
    'file:///certs',
    '/a\0b',
    '/a\nb',
    'C:certs',
    `/${'x'.repeat(4096)}`,
  ])('refuses %o', (value) => {
    refuses((given) => {
      assertPath(given, 'theOption')
    }, value)
  })
})

describe('assertNumber', () => {
  const check = (value: unknown): void => {
    assertNumber(value, 'theOption', { min: 1, max: 10 })
  }

  it.each([1, 1.5, 10])('accepts %d', (value) => {
    expect(() => {
      check(value)
    }).not.toThrow()
  })

  it.each([...shapeless, 0.999, 10.001, -1, 0, Infinity, -Infinity, '5', '', true, new Number(5)])(
    'refuses %o',
    (value) => {
      refuses(check, value)
    },
  )

  it('asks for whole numbers where it should', () => {
    const integer = (value: unknown): void => {
      assertNumber(value, 'theOption', { min: 0, max: 65_535, integer: true })
    }
    expect(() => {
      integer(443)
    }).not.toThrow()
    refuses(integer, 443.5)
  })
})

describe('assertDuration', () => {
  const check = (value: unknown): void => {
    assertDuration(value, 'theOption')
  }

  it.each([1, 30_000, 2 ** 31, 400 * 86_400_000])('accepts %d ms', (value) => {
    expect(() => {
      check(value)
    }).not.toThrow()
  })

  it.each([...shapeless, 0, -1, 0.5, Infinity, 400 * 86_400_000 + 1, '1000'])('refuses %o', (value) => {
    refuses(check, value)
  })
})

describe('assertBoolean, assertFunction, assertArray, assertMethod, assertOneOf', () => {
  it('accept what they should', () => {
    expect(() => {
      assertBoolean(true, 'theOption')
      assertBoolean(false, 'theOption')
      assertFunction(() => 1, 'theOption')
      assertFunction(Date, 'theOption')
      assertArray([], 'theOption')
      assertMethod({ get: () => 1 }, 'get', 'theOption')
      assertMethod(new Map(), 'get', 'theOption')
      assertOneOf('b', 'theOption', ['a', 'b'])
    }).not.toThrow()
  })

  it.each([undefined, null, 0, 1, '', 'true', 'false', {}, Object(false)])('a boolean is not %o', (value) => {
    refuses((given) => {
      assertBoolean(given, 'theOption')
    }, value)
  })

  it.each([undefined, null, 'ab', { length: 1 }, new Set([1]), new Uint8Array(2)])('an array is not %o', (value) => {
    refuses((given) => {
      assertArray(given, 'theOption')
    }, value)
  })

  it.each([undefined, null, 'store', 7, {}, { get: 'x' }, { put: () => 1 }])(
    'a plug-in with a method is not %o',
    (value) => {
      refuses(
        (given) => {
          assertMethod(given as object, 'get', 'theOption')
        },
        value,
        '"theOption.get"',
      )
    },
  )

  it.each([undefined, null, {}, 'a', { call: () => 1 }])('a function is not %o', (value) => {
    refuses((given) => {
      assertFunction(given, 'theOption')
    }, value)
  })

  it.each([undefined, null, '', 'A', 'c', 'toString', ['a'], 0])('one of a and b is not %o', (value) => {
    refuses((given) => {
      assertOneOf(given, 'theOption', ['a', 'b'])
    }, value)
  })
})

describe('assertHttpsUrl', () => {
  it.each([
    ['https://ca.example/directory', 'https://ca.example/directory'],
    ['https://CA.Example:443/directory?a=b', 'https://ca.example/directory?a=b'],
    ['https://192.0.2.7:8443/', 'https://192.0.2.7:8443/'],
    ['https://[2001:db8::1]/', 'https://[2001:db8::1]/'],
    [new URL('https://ca.example/'), 'https://ca.example/'],
    // The URL standard drops white space around; what is used is what was parsed.
    [' https://ca.example/\n', 'https://ca.example/'],
  ])('reads %s', (value, href) => {
    expect(assertHttpsUrl(value, 'theOption').href).toBe(href)
    expect(assertHttpsUrl(value, 'theOption', true).href).toBe(href)
  })

  it.each([
    ...shapeless,
    '',
    'ca.example',
    '/directory',
    '//ca.example/',
    'https://',
    'http://ca.example/directory',
    'ftp://ca.example/',
    'file:///etc/passwd',
    'data:text/plain,x',
    'javascript:alert(1)',
    'ws://ca.example/',
    'https://user@ca.example/',
    'https://user:secret-password@ca.example/',
    'https://:secret-password@ca.example/',
    'https://ca.example/#fragment',
  ])('refuses %s, and does not quote it', (value) => {
    for (const loopback of [false, true]) {
      refuses((given) => {
        assertHttpsUrl(given, 'theOption', loopback)
      }, value)
      expect(() => assertHttpsUrl(value, 'theOption', loopback)).not.toThrow('secret-password')
    }
  })

  it.each([
    'http://127.0.0.1:14000/dir',
    'http://127.1:14000/',
    'http://127.255.0.3/',
    'http://[::1]:14000/',
    'http://localhost:14000/',
  ])('takes %s only where it is allowed', (value) => {
    expect(assertHttpsUrl(value, 'theOption', true).protocol).toBe('http:')
    refuses((given) => {
      assertHttpsUrl(given, 'theOption')
    }, value)
  })

  it.each([
    'http://127.0.0.1.ca.example/',
    'http://localhost.ca.example/',
    'http://ca.example/127.0.0.1',
    'http://127.0.0.1@ca.example/',
    'http://128.0.0.1/',
    'http://[::2]/',
    'http://[::ffff:192.0.2.7]/',
    'http://0.0.0.0/',
    'http://10.0.0.1/',
    'http://169.254.169.254/',
    'http://user@127.0.0.1/',
  ])('does not take %s for loopback', (value) => {
    refuses((given) => {
      assertHttpsUrl(given, 'theOption', true)
    }, value)
  })

  it('takes http to any address where a caller allows it, and nothing else besides', () => {
    expect(assertHttpsUrl('http://marathon.mesos:8080/', 'theOption', 'anywhere').protocol).toBe('http:')
    for (const url of ['ftp://a/', 'http://user:password@a/', 'http://a/#b', 'a']) {
      expect(() => assertHttpsUrl(url, 'theOption', 'anywhere')).toThrow('theOption')
    }
  })

  it('returns a copy: the URL that was given may change later', () => {
    const given = new URL('https://ca.example/')
    const copy = assertHttpsUrl(given, 'theOption')
    given.hostname = 'other.example'
    expect(copy.hostname).toBe('ca.example')
  })
})
