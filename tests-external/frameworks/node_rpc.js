// RPC with amqplib, both ways in use: a reply queue of the client's own, and direct reply-to.
//
//     node node_rpc.js URL
//
// Ends with 0 only if every answer came back to the caller who asked, and the broker's errors are
// RabbitMQ's.

'use strict';

const assert = require('node:assert');
const { randomUUID } = require('node:crypto');
const amqp = require('amqplib');

const DIRECT_REPLY_TO = 'amq.rabbitmq.reply-to';
const CALLS = 200;

// Answers each request with its square, on a connection of its own.
async function serve(url, queue) {
  const connection = await amqp.connect(url);
  const channel = await connection.createChannel();
  await channel.assertQueue(queue, { durable: false, autoDelete: true });
  await channel.prefetch(10);
  await channel.consume(queue, (request) => {
    const number = Number(request.content.toString());
    channel.sendToQueue(request.properties.replyTo, Buffer.from(String(number * number)), {
      correlationId: request.properties.correlationId,
    });
    channel.ack(request);
  });
  return connection;
}

// CALLS requests at once, matched by correlation id.
async function ask(channel, queue, replyTo, consumeOptions) {
  const waiting = new Map();
  await channel.consume(replyTo, (reply) => {
    const { correlationId } = reply.properties;
    assert(waiting.has(correlationId), 'an answer that nobody waits for');
    waiting.get(correlationId)(Number(reply.content.toString()));
    waiting.delete(correlationId);
    if (!consumeOptions.noAck) channel.ack(reply);
  }, consumeOptions);
  const answers = Array.from({ length: CALLS }, (_, number) => new Promise((resolve) => {
    const correlationId = randomUUID();
    waiting.set(correlationId, resolve);
    channel.sendToQueue(queue, Buffer.from(String(number)), { replyTo, correlationId });
  }));
  assert.deepStrictEqual(await Promise.all(answers),
    Array.from({ length: CALLS }, (_, number) => number * number));
}

// The broker closes the channel with this text.
async function assertChannelError(connection, action, text) {
  const channel = await connection.createChannel();
  const closed = new Promise((resolve) => channel.once('error', resolve));
  await Promise.resolve(action(channel)).catch(() => {});
  const error = await closed;
  assert(error.message.includes(text), error.message);
}

async function main(url) {
  const queue = `rpc-${randomUUID()}`;
  const server = await serve(url, queue);
  const client = await amqp.connect(url);

  const own = await client.createChannel();
  const replies = await own.assertQueue('', { exclusive: true });
  await ask(own, queue, replies.queue, {});

  const direct = await client.createChannel();
  await ask(direct, queue, DIRECT_REPLY_TO, { noAck: true });

  await assertChannelError(client,
    (channel) => channel.sendToQueue(queue, Buffer.from('1'), { replyTo: DIRECT_REPLY_TO }),
    'PRECONDITION_FAILED - fast reply consumer does not exist');
  await assertChannelError(client,
    (channel) => channel.consume(DIRECT_REPLY_TO, () => {}, { noAck: false }),
    'PRECONDITION_FAILED - reply consumer cannot acknowledge');

  // A reply to somebody who has gone is unroutable, not an error.
  const gone = await client.createChannel();
  const address = new Promise((resolve) => {
    direct.assertQueue('', { exclusive: true }).then(({ queue: echo }) => {
      direct.consume(echo, (request) => resolve(request.properties.replyTo), { noAck: true });
      gone.consume(DIRECT_REPLY_TO, () => {}, { noAck: true }).then(() => {
        gone.sendToQueue(echo, Buffer.from(''), { replyTo: DIRECT_REPLY_TO });
      });
    });
  });
  const replyTo = await address;
  assert(replyTo.startsWith(`${DIRECT_REPLY_TO}.`), replyTo);
  await gone.close();
  const confirming = await client.createConfirmChannel();
  const returned = new Promise((resolve) => confirming.once('return', resolve));
  confirming.publish('', replyTo, Buffer.from('late'), { mandatory: true });
  await confirming.waitForConfirms();
  assert.strictEqual((await returned).fields.replyCode, 312);

  await client.close();
  await server.close();
  console.log(`node rpc: ${2 * CALLS} calls`);
}

main(process.argv[2]).catch((error) => {
  console.error(error);
  process.exit(1);
});
