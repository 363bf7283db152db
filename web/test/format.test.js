import assert from 'node:assert/strict';
import test from 'node:test';
import { bytes, count, csv, curl, name, quoted, rate, ratesOf, short, span } from '../src/format.js';

test('numbers say what they are, and unknown is not zero', () => {
  assert.equal(count(1234567), '1\u202f234\u202f567');
  assert.equal(count(0), '0');
  for (const f of [count, rate, short, bytes]) assert.equal(f(undefined), 'unknown');
  assert.deepEqual([0, 0.01, 3.14159, 12.7].map(rate), ['0', '< 0.1', '3.1', '13']);
  assert.deepEqual([999, 12_345, 2_500_000, 48_213_000].map(short), ['999', '12.3k', '2.5M', '48.2M']);
  assert.deepEqual([0, 1023, 1024, 1.5 * 2 ** 30].map(bytes), ['0 B', '1023 B', '1.0 KiB', '1.5 GiB']);
});

test('spans have their two largest units', () => {
  assert.deepEqual([null, undefined, 0, 0.4, 59, 3600, 6420, 90_061].map(span), ['∞', 'unknown', '0 s', '< 1 s', '59 s', '1 h', '1 h 47 m', '1 d 1 h']);
});

test('what hides in a name is shown', () => {
  assert.equal(name('<img src=x onerror=alert(1)>'), '<img src=x onerror=alert(1)>');
  assert.equal(name('a\u202eb\u0000'), 'a⟨U+202E⟩b⟨U+0000⟩');
  assert.equal(name(''), '(no name)');
  assert.equal(name(null), 'unknown');
});

test('counters become rates, oldest first', () => {
  const samples = [{ sample: 30, timestamp: 10_000 }, { sample: 10, timestamp: 5000 }, { sample: 12, timestamp: 0 }];
  assert.deepEqual(ratesOf({ samples }), [[5, 10], [0, 4]]);
  assert.deepEqual(ratesOf(undefined), [[], []]);
});

test('what is copied can be pasted', () => {
  assert.equal(quoted('orders'), 'orders');
  assert.equal(quoted("it's $HOME"), `'it'\\''s $HOME'`);
  assert.equal(curl('http://h:1/', 'ana', 'GET', '/api/queues?a=1'), `curl -u ana 'http://h:1/api/queues?a=1'`);
  assert.equal(csv(['a', 'b'], [['x,"y"', 1], ['=1+1', null]]), 'a,b\r\n"x,""y""",1\r\n\'=1+1,');
});
