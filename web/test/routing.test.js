import assert from 'node:assert/strict';
import test from 'node:test';
import { diff } from '../src/diff.js';
import { headersFit, layers, route, topic } from '../src/routing.js';
import { verdict } from '../src/verdict.js';

test('topic patterns take what AMQP says', () => {
  const table = [
    ['a.b', 'a.b', true], ['a.*', 'a.b', true], ['a.*', 'a', false], ['a.*', 'a.b.c', false], ['#', '', true], ['#', 'a.b', true],
    ['a.#', 'a', true], ['a.#', 'a.b.c', true], ['#.b', 'a.a.b', true], ['#.b.#', 'a.c', false], ['*.#.*', 'a', false], ['', '', true], ['', 'a', false],
  ];
  for (const [pattern, key, is] of table) assert.equal(topic(pattern, key), is, `${pattern} ${key}`);
});

test('headers bindings take all or any', () => {
  assert.ok(headersFit({ 'x-match': 'all', a: 1 }, { a: 1, b: 2 }));
  assert.ok(!headersFit({ a: 1, b: 3 }, { a: 1, b: 2 }));
  assert.ok(headersFit({ 'x-match': 'any', a: 1, b: 3 }, { a: 1 }));
  assert.ok(!headersFit({ 'x-match': 'any' }, { a: 1 }));
});

test('a message goes through exchanges, in circles too, and to the alternate', () => {
  const exchanges = [{ name: 'a', type: 'topic' }, { name: 'b', type: 'fanout' }, { name: 'lost', type: 'fanout' }, { name: 'd', type: 'direct', arguments: { 'alternate-exchange': 'lost' } }];
  const bindings = [
    { source: 'a', destination: 'b', destination_type: 'exchange', routing_key: 'x.#' },
    { source: 'b', destination: 'a', destination_type: 'exchange', routing_key: '' },
    { source: 'b', destination: 'q', destination_type: 'queue', routing_key: '' },
    { source: 'lost', destination: 'l', destination_type: 'queue', routing_key: '' },
  ];
  assert.deepEqual(route({ exchanges, bindings }, { exchange: 'a', key: 'x.y' }).queues, ['q']);
  assert.deepEqual(route({ exchanges, bindings }, { exchange: 'a', key: 'z' }), { queues: [], bindings: [], exchanges: ['a'], unroutable: ['a'] });
  assert.deepEqual(route({ exchanges, bindings }, { exchange: 'd', key: 'z' }).queues, ['l']);
  const drawn = layers([{ from: 'a', to: 'b' }, { from: 'b', to: 'c' }, { from: 'c', to: 'a' }]);
  assert.equal(drawn.size, 3);
});

test('a definitions file is compared with what is there', () => {
  const now = { queues: [{ vhost: '/', name: 'q', durable: true, arguments: { b: 1, a: 2 } }], users: [] };
  const wanted = { queues: [{ name: 'q', vhost: '/', arguments: { a: 2, b: 1 }, durable: true }, { vhost: '/', name: 'r' }], users: [{ name: 'u' }] };
  assert.deepEqual(diff(now, wanted).map((c) => `${c.is} ${c.kind} ${c.name}`), ['added users u', 'added queues / r']);
  assert.deepEqual(diff(now, { queues: [{ vhost: '/', name: 'q', durable: false }] })[0].what, ['durable']);
});

test('the verdict names what is worst', () => {
  const overview = { object_totals: { queues: 1, connections: 0 }, unknown_nodes: [] };
  const queue = (seconds, is_slo_met) => ({ name: 'q', is_slo_met, horizon: { now: { seconds, limit: 'disk', outcome: 'block' } } });
  const of = (more) => verdict({ overview, nodes: [], cluster: { nodes: [] }, horizon: { queues: [] }, ...more });
  assert.equal(of({}).level, 'ok');
  assert.equal(of({ overview: null }).level, 'unknown');
  assert.match(of({ nodes: [{ name: 'n', mem_alarm: true }] }).text, /Publishers are blocked: memory of n/);
  assert.match(of({ horizon: { queues: [queue(720)] } }).text, /q, where publishers are blocked in 12 m \(disk\)/);
  assert.equal(of({ horizon: { queues: [queue(9e5)] } }).level, 'ok');
  assert.match(of({ horizon: { queues: [queue(9e5, false)] } }).text, /1 queue is below/);
  assert.equal(of({ cluster: { clustered: true, nodes: [], groups: { leaderless: 2 } } }).level, 'bad');
});
