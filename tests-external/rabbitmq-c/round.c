/* The foreign-client round with rabbitmq-c; ../README.md lists its steps.
 * Usage: round AMQP_URL */

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { MESSAGES = 1000, PREFETCH = 50, BODY_MAX = 512 };

static char queue[64];
static char missing[96];

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("rabbitmq-c: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void expect(int holds, const char *what) {
    if (!holds) fail("%s", what);
}

static int equal(amqp_bytes_t bytes, const char *text) {
    return bytes.len == strlen(text) && memcmp(bytes.bytes, text, bytes.len) == 0;
}

static void expect_ok(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        fail("%s: %s", what, amqp_error_string2(reply.library_error));
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
        amqp_channel_close_t *m = reply.reply.decoded;
        fail("%s: %d %.*s", what, m->reply_code, (int)m->reply_text.len,
             (char *)m->reply_text.bytes);
    }
    fail("%s: the broker closed the connection", what);
}

/* The last call on `channel` must have been answered by channel.close with `code` and `text`. */
static void expect_close(amqp_connection_state_t c, int channel, const char *what, int code,
                         const char *text) {
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(c);
    expect(reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION, what);
    expect(reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD, what);
    amqp_channel_close_t *m = reply.reply.decoded;
    if (m->reply_code != code || !equal(m->reply_text, text))
        fail("%s: expected %d %s, got %d %.*s", what, code, text, m->reply_code,
             (int)m->reply_text.len, (char *)m->reply_text.bytes);
    amqp_channel_close_ok_t ok = {0};
    amqp_send_method(c, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
}

static size_t make_body(int i, char *out) {
    int length = snprintf(out, BODY_MAX, "message %d ", i);
    memset(out + length, 'x', i % 300);
    return (size_t)(length + i % 300);
}

static void check_errors(amqp_connection_state_t c) {
    char text[256];
    amqp_channel_open(c, 2);
    expect_ok(amqp_get_rpc_reply(c), "open channel 2");
    amqp_queue_declare(c, 2, amqp_cstring_bytes(missing), 1, 0, 0, 0, amqp_empty_table);
    snprintf(text, sizeof text, "NOT_FOUND - no queue '%s' in vhost '/'", missing);
    expect_close(c, 2, "passive declare of a missing queue", 404, text);

    amqp_channel_open(c, 3);
    expect_ok(amqp_get_rpc_reply(c), "open channel 3");
    amqp_queue_declare(c, 3, amqp_cstring_bytes(queue), 0, 0, 0, 0, amqp_empty_table);
    snprintf(text, sizeof text,
             "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in vhost '/': "
             "received 'false' but current is 'true'",
             queue);
    expect_close(c, 3, "inequivalent redeclare", 406, text);
}

static void wait_for_confirms(amqp_connection_state_t c, uint64_t confirmed, uint64_t upto) {
    while (confirmed < upto) {
        amqp_frame_t frame;
        struct timeval timeout = {20, 0};
        int status = amqp_simple_wait_frame_noblock(c, &frame, &timeout);
        if (status != AMQP_STATUS_OK)
            fail("waiting for confirm %d: %s", (int)confirmed + 1, amqp_error_string2(status));
        if (frame.frame_type != AMQP_FRAME_METHOD) continue;
        expect(frame.payload.method.id == AMQP_BASIC_ACK_METHOD, "something else than a confirm");
        amqp_basic_ack_t *ack = frame.payload.method.decoded;
        if (ack->multiple)
            confirmed = ack->delivery_tag;
        else
            confirmed += 1;
    }
    amqp_maybe_release_buffers(c);
}

static void publish(amqp_connection_state_t c) {
    char body[BODY_MAX], id[16], correlation[16];
    for (int i = 0; i < MESSAGES; i++) {
        amqp_table_entry_t header;
        header.key = amqp_cstring_bytes("n");
        header.value.kind = AMQP_FIELD_KIND_I32;
        header.value.value.i32 = i;
        amqp_basic_properties_t p = {0};
        snprintf(id, sizeof id, "m%d", i);
        snprintf(correlation, sizeof correlation, "c%d", i);
        p._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_HEADERS_FLAG |
                   AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG |
                   AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                   AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_APP_ID_FLAG;
        p.content_type = amqp_cstring_bytes("text/plain");
        p.headers.num_entries = 1;
        p.headers.entries = &header;
        p.delivery_mode = AMQP_DELIVERY_PERSISTENT;
        p.priority = 3;
        p.correlation_id = amqp_cstring_bytes(correlation);
        p.message_id = amqp_cstring_bytes(id);
        p.timestamp = 1700000000u + (uint64_t)i;
        p.type = amqp_cstring_bytes("round");
        p.app_id = amqp_cstring_bytes("staunch");
        amqp_bytes_t bytes = {make_body(i, body), body};
        int status = amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(queue), 0, 0,
                                        &p, bytes);
        if (status != AMQP_STATUS_OK) fail("publish: %s", amqp_error_string2(status));
    }
    wait_for_confirms(c, 0, MESSAGES);
}

static void check_mandatory(amqp_connection_state_t c) {
    int status = amqp_basic_publish(c, 1, amqp_empty_bytes, amqp_cstring_bytes(missing), 1, 0,
                                    NULL, amqp_cstring_bytes("lost"));
    if (status != AMQP_STATUS_OK) fail("publish: %s", amqp_error_string2(status));
    amqp_frame_t frame;
    struct timeval timeout = {20, 0};
    status = amqp_simple_wait_frame_noblock(c, &frame, &timeout);
    if (status != AMQP_STATUS_OK) fail("waiting for the return: %s", amqp_error_string2(status));
    expect(frame.frame_type == AMQP_FRAME_METHOD, "a frame out of order instead of a return");
    expect(frame.payload.method.id == AMQP_BASIC_RETURN_METHOD, "the return did not come first");
    amqp_basic_return_t *m = frame.payload.method.decoded;
    expect(m->reply_code == 312 && equal(m->reply_text, "NO_ROUTE"), "return code and text");
    expect(equal(m->routing_key, missing), "returned routing key");
    amqp_message_t message;
    expect_ok(amqp_read_message(c, 1, &message, 0), "returned message");
    expect(equal(message.body, "lost"), "returned body");
    amqp_destroy_message(&message);
    wait_for_confirms(c, MESSAGES, MESSAGES + 1);
}

static uint64_t get_first(amqp_connection_state_t c, int redelivered) {
    char body[BODY_MAX];
    size_t length = make_body(0, body);
    amqp_rpc_reply_t reply = amqp_basic_get(c, 1, amqp_cstring_bytes(queue), 0);
    expect_ok(reply, "get");
    expect(reply.reply.id == AMQP_BASIC_GET_OK_METHOD, "get found nothing");
    amqp_basic_get_ok_t *m = reply.reply.decoded;
    uint64_t tag = m->delivery_tag;
    expect(!m->redelivered == !redelivered, "redelivered flag of get");
    expect(m->message_count == MESSAGES - 1, "message count of get");
    amqp_message_t message;
    expect_ok(amqp_read_message(c, 1, &message, 0), "get, body");
    expect(message.body.len == length && !memcmp(message.body.bytes, body, length), "get, body");
    amqp_destroy_message(&message);
    return tag;
}

static void check_get(amqp_connection_state_t c) {
    expect(amqp_basic_reject(c, 1, get_first(c, 0), 1) == AMQP_STATUS_OK, "reject");
    expect(amqp_basic_nack(c, 1, get_first(c, 1), 0, 1) == AMQP_STATUS_OK, "nack");
}

static void check_delivery(amqp_envelope_t *e, int i) {
    char body[BODY_MAX], text[16];
    size_t length = make_body(i, body);
    amqp_basic_properties_t *p = &e->message.properties;
    if (e->message.body.len != length || memcmp(e->message.body.bytes, body, length))
        fail("message %d has another body: %.*s", i, (int)e->message.body.len,
             (char *)e->message.body.bytes);
    expect(!e->redelivered == (i != 0), "redelivered flag");
    expect(equal(e->routing_key, queue) && e->exchange.len == 0, "routing key");
    /* The redelivered first message may also tell how often it was tried. */
    if (i > 0) {
        expect(p->headers.num_entries == 1 && equal(p->headers.entries[0].key, "n"), "headers");
        expect(p->headers.entries[0].value.kind == AMQP_FIELD_KIND_I32, "type of the header");
        expect(p->headers.entries[0].value.value.i32 == i, "value of the header");
    }
    expect(equal(p->content_type, "text/plain"), "content type");
    expect(p->delivery_mode == 2 && p->priority == 3, "delivery mode and priority");
    snprintf(text, sizeof text, "m%d", i);
    expect(equal(p->message_id, text), "message id");
    snprintf(text, sizeof text, "c%d", i);
    expect(equal(p->correlation_id, text), "correlation id");
    expect(p->timestamp == 1700000000u + (uint64_t)i, "timestamp");
    expect(equal(p->type, "round") && equal(p->app_id, "staunch"), "type and app id");
}

static void consume(amqp_connection_state_t c) {
    amqp_basic_qos(c, 1, 0, PREFETCH, 0);
    expect_ok(amqp_get_rpc_reply(c), "qos");
    amqp_basic_consume(c, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes("round"), 0, 0, 0,
                       amqp_empty_table);
    expect_ok(amqp_get_rpc_reply(c), "consume");
    for (int i = 0; i < MESSAGES; i++) {
        amqp_envelope_t envelope;
        struct timeval timeout = {20, 0};
        expect_ok(amqp_consume_message(c, &envelope, &timeout, 0), "delivery");
        check_delivery(&envelope, i);
        expect(amqp_basic_ack(c, 1, envelope.delivery_tag, 0) == AMQP_STATUS_OK, "ack");
        amqp_destroy_envelope(&envelope);
        amqp_maybe_release_buffers(c);
    }
    amqp_basic_cancel(c, 1, amqp_cstring_bytes("round"));
    expect_ok(amqp_get_rpc_reply(c), "cancel");
}

static amqp_connection_state_t open_connection(char *url) {
    struct amqp_connection_info info;
    if (amqp_parse_url(url, &info) != AMQP_STATUS_OK) fail("cannot parse the URL");
    amqp_connection_state_t c = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(c);
    if (amqp_socket_open(socket, info.host, info.port) != AMQP_STATUS_OK)
        fail("cannot connect to %s:%d", info.host, info.port);
    expect_ok(amqp_login(c, info.vhost, 0, 131072, 60, AMQP_SASL_METHOD_PLAIN, info.user,
                         info.password),
              "login");
    amqp_channel_open(c, 1);
    expect_ok(amqp_get_rpc_reply(c), "open channel 1");
    return c;
}

int main(int argc, char **argv) {
    if (argc != 2) fail("usage: round AMQP_URL");
    snprintf(queue, sizeof queue, "staunch.round.rabbitmq-c.%d", (int)getpid());
    snprintf(missing, sizeof missing, "%s.missing", queue);
    amqp_connection_state_t c = open_connection(argv[1]);
    amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, amqp_empty_table);
    expect_ok(amqp_get_rpc_reply(c), "declare");
    check_errors(c);
    amqp_confirm_select(c, 1);
    expect_ok(amqp_get_rpc_reply(c), "confirm.select");
    publish(c);
    check_mandatory(c);
    amqp_queue_declare_ok_t *declared =
        amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    expect_ok(amqp_get_rpc_reply(c), "passive declare");
    expect(declared->message_count == MESSAGES, "message count after publishing");
    check_get(c);
    consume(c);
    amqp_rpc_reply_t reply = amqp_basic_get(c, 1, amqp_cstring_bytes(queue), 0);
    expect_ok(reply, "get from the drained queue");
    expect(reply.reply.id == AMQP_BASIC_GET_EMPTY_METHOD, "the drained queue had a message");
    amqp_queue_delete_ok_t *deleted = amqp_queue_delete(c, 1, amqp_cstring_bytes(queue), 0, 0);
    expect_ok(amqp_get_rpc_reply(c), "delete");
    expect(deleted->message_count == 0, "messages at delete");
    expect_ok(amqp_connection_close(c, AMQP_REPLY_SUCCESS), "close");
    amqp_destroy_connection(c);
    puts("rabbitmq-c: ok");
    return 0;
}
