// The foreign-client round with amqplib; ../README.md lists its steps. Usage: round.js AMQP_URL
"use strict";

const amqp = require("amqplib");
const { isDeepStrictEqual } = require("node:util");

const MESSAGES = 1000;
const PREFETCH = 50;
const QUEUE = `staunch.round.amqplib.${process.pid}`;

function fail(text) {
  console.error(`amqplib: ${text}`);
  process.exit(1);
}

function expect(what, actual, wanted) {
  if (!isDeepStrictEqual(actual, wanted)) {
    fail(`${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(actual)}`);
  }
}

function body(i) {
  return Buffer.from(`message ${i} ` + "x".repeat(i % 300));
}

// Runs `call` on a channel of its own, which the broker must close with `code` and `text`.
async function expectClose(connection, what, code, text, call) {
  const channel = await connection.createChannel();
  const closed = new Promise((resolve) => channel.once("error", resolve));
  await call(channel).then(
    () => fail(`${what}: the broker did not close the channel`),
    () => {},
  );
  const error = await closed;
  expect(what, error.code, code);
  if (!error.message.includes(text)) {
    fail(`${what}: expected "${text}", got "${error.message}"`);
  }
}

async function checkErrors(connection) {
  const missing = `${QUEUE}.missing`;
  await expectClose(
    connection,
    "passive declare of a missing queue",
    404,
    `NOT_FOUND - no queue '${missing}' in vhost '/'`,
    (channel) => channel.checkQueue(missing),
  );
  await expectClose(
    connection,
    "inequivalent redeclare",
    406,
    `PRECONDITION_FAILED - inequivalent arg 'durable' for queue '${QUEUE}' in vhost '/': ` +
      "received 'false' but current is 'true'",
    (channel) => channel.assertQueue(QUEUE, { durable: false }),
  );
}

async function publish(channel) {
  for (let i = 0; i < MESSAGES; i += 1) {
    channel.sendToQueue(QUEUE, body(i), {
      contentType: "text/plain",
      headers: { n: i, word: "ünïcode" },
      persistent: true,
      priority: 3,
      correlationId: `c${i}`,
      messageId: `m${i}`,
      timestamp: 1700000000 + i,
      type: "round",
      appId: "staunch",
    });
  }
  await channel.waitForConfirms();
}

async function checkMandatory(channel) {
  let returned = null;
  channel.once("return", (message) => {
    returned = message;
  });
  channel.sendToQueue(`${QUEUE}.missing`, Buffer.from("lost"), { mandatory: true });
  await channel.waitForConfirms();
  if (returned === null) {
    fail("an unroutable mandatory message was not returned before its confirm");
  }
  expect("return", [returned.fields.replyCode, returned.fields.replyText], [312, "NO_ROUTE"]);
  expect("returned body", returned.content.toString(), "lost");
}

async function checkGet(channel) {
  let got = await channel.get(QUEUE);
  expect("get", [got.fields.redelivered, got.fields.messageCount], [false, MESSAGES - 1]);
  expect("get, body", got.content, body(0));
  channel.reject(got, true);
  got = await channel.get(QUEUE);
  expect("get again", [got.fields.redelivered, got.fields.messageCount], [true, MESSAGES - 1]);
  expect("get again, body", got.content, body(0));
  channel.nack(got, false, true);
}

function checkDelivery(message, i) {
  const { fields, properties } = message;
  expect("body", message.content, body(i));
  expect("redelivered", fields.redelivered, i === 0);
  expect("routing key", [fields.exchange, fields.routingKey], ["", QUEUE]);
  // The redelivered first message may also tell how often it was tried.
  const { "x-delivery-count": _, ...headers } = properties.headers;
  expect("headers", headers, { n: i, word: "ünïcode" });
  expect("content type", properties.contentType, "text/plain");
  expect("delivery mode", [properties.deliveryMode, properties.priority], [2, 3]);
  expect("ids", [properties.messageId, properties.correlationId], [`m${i}`, `c${i}`]);
  expect("timestamp", properties.timestamp, 1700000000 + i);
  expect("type", [properties.type, properties.appId], ["round", "staunch"]);
}

async function consume(channel) {
  await channel.prefetch(PREFETCH);
  let i = 0;
  let done;
  const finished = new Promise((resolve) => {
    done = resolve;
  });
  const { consumerTag } = await channel.consume(QUEUE, (message) => {
    if (message === null) fail("the broker cancelled the consumer");
    checkDelivery(message, i);
    channel.ack(message);
    i += 1;
    if (i === MESSAGES) done();
  });
  const timer = setTimeout(() => fail(`only ${i} of ${MESSAGES} delivered in 30 s`), 30000);
  await finished;
  clearTimeout(timer);
  await channel.cancel(consumerTag);
}

async function main() {
  const connection = await amqp.connect(process.argv[2]);
  const channel = await connection.createConfirmChannel();
  const declared = await channel.assertQueue(QUEUE, { durable: true });
  expect("declare", [declared.queue, declared.messageCount], [QUEUE, 0]);
  await checkErrors(connection);
  await publish(channel);
  await checkMandatory(channel);
  expect("messages", (await channel.checkQueue(QUEUE)).messageCount, MESSAGES);
  await checkGet(channel);
  await consume(channel);
  expect("get from the drained queue", await channel.get(QUEUE), false);
  expect("deleted", (await channel.deleteQueue(QUEUE)).messageCount, 0);
  await connection.close();
  console.log("amqplib: ok");
}

main().catch((error) => fail(error.stack));
