// The foreign-client round with amqp091-go; ../README.md lists its steps. Usage: round AMQP_URL
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	messages = 1000
	prefetch = 50
)

var (
	queue   = fmt.Sprintf("staunch.round.amqp091-go.%d", os.Getpid())
	missing = queue + ".missing"
)

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "amqp091-go: "+format+"\n", arguments...)
	os.Exit(1)
}

func must(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func expect[T comparable](what string, actual, wanted T) {
	if actual != wanted {
		fail("%s: expected %v, got %v", what, wanted, actual)
	}
}

func body(i int) []byte {
	return []byte(fmt.Sprintf("message %d ", i) + strings.Repeat("x", i%300))
}

// expectClose runs call on a channel of its own, which the broker must close with code and text.
func expectClose(c *amqp.Connection, what string, code int, text string, call func(*amqp.Channel) error) {
	channel, err := c.Channel()
	must(err, what)
	var closed *amqp.Error
	if !errors.As(call(channel), &closed) {
		fail("%s: the broker did not close the channel", what)
	}
	expect(what, closed.Code, code)
	expect(what, closed.Reason, text)
}

func checkErrors(c *amqp.Connection) {
	expectClose(c, "passive declare of a missing queue", 404,
		fmt.Sprintf("NOT_FOUND - no queue '%s' in vhost '/'", missing),
		func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclarePassive(missing, false, false, false, false, nil)
			return err
		})
	expectClose(c, "inequivalent redeclare", 406,
		fmt.Sprintf("PRECONDITION_FAILED - inequivalent arg 'durable' for queue '%s' in vhost '/': "+
			"received 'false' but current is 'true'", queue),
		func(channel *amqp.Channel) error {
			_, err := channel.QueueDeclare(queue, false, false, false, false, nil)
			return err
		})
}

// publish sends everything, then waits for every confirm.
func publish(channel *amqp.Channel) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var confirms []*amqp.DeferredConfirmation
	for i := 0; i < messages; i++ {
		confirm, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", queue, false, false, amqp.Publishing{
			ContentType:   "text/plain",
			Headers:       amqp.Table{"n": int32(i), "word": "ünïcode"},
			DeliveryMode:  amqp.Persistent,
			Priority:      3,
			CorrelationId: fmt.Sprintf("c%d", i),
			MessageId:     fmt.Sprintf("m%d", i),
			Timestamp:     time.Unix(1700000000+int64(i), 0),
			Type:          "round",
			AppId:         "staunch",
			Body:          body(i),
		})
		must(err, "publish")
		confirms = append(confirms, confirm)
	}
	for i, confirm := range confirms {
		acked, err := confirm.WaitContext(ctx)
		must(err, fmt.Sprintf("confirm %d", i+1))
		expect("confirm", acked, true)
	}
}

func checkMandatory(channel *amqp.Channel) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	confirm, err := channel.PublishWithDeferredConfirmWithContext(ctx, "", missing, true, false,
		amqp.Publishing{Body: []byte("lost")})
	must(err, "publish")
	_, err = confirm.WaitContext(ctx)
	must(err, "confirm of an unroutable message")
	select {
	case returned := <-returns:
		expect("return", returned.ReplyCode, 312)
		expect("return", returned.ReplyText, "NO_ROUTE")
		expect("returned key", returned.RoutingKey, missing)
		expect("returned body", string(returned.Body), "lost")
	default:
		fail("an unroutable mandatory message was not returned before its confirm")
	}
}

func getFirst(channel *amqp.Channel, redelivered bool) amqp.Delivery {
	got, ok, err := channel.Get(queue, false)
	must(err, "get")
	expect("get found a message", ok, true)
	expect("redelivered flag of get", got.Redelivered, redelivered)
	expect("message count of get", got.MessageCount, uint32(messages-1))
	expect("get, body", string(got.Body), string(body(0)))
	return got
}

func checkGet(channel *amqp.Channel) {
	first := getFirst(channel, false)
	must(first.Reject(true), "reject")
	again := getFirst(channel, true)
	must(again.Nack(false, true), "nack")
}

func checkDelivery(got amqp.Delivery, i int) {
	if !bytes.Equal(got.Body, body(i)) {
		fail("message %d has another body: %s", i, got.Body)
	}
	expect("redelivered", got.Redelivered, i == 0)
	expect("routing key", got.RoutingKey, queue)
	expect("header", got.Headers["n"], any(int32(i)))
	expect("header", got.Headers["word"], any("ünïcode"))
	expect("content type", got.ContentType, "text/plain")
	expect("delivery mode", got.DeliveryMode, uint8(2))
	expect("priority", got.Priority, uint8(3))
	expect("message id", got.MessageId, fmt.Sprintf("m%d", i))
	expect("correlation id", got.CorrelationId, fmt.Sprintf("c%d", i))
	expect("timestamp", got.Timestamp.Unix(), 1700000000+int64(i))
	expect("type", got.Type, "round")
	expect("app id", got.AppId, "staunch")
}

func consume(channel *amqp.Channel) {
	must(channel.Qos(prefetch, 0, false), "qos")
	deliveries, err := channel.Consume(queue, "round", false, false, false, false, nil)
	must(err, "consume")
	timeout := time.After(30 * time.Second)
	for i := 0; i < messages; i++ {
		select {
		case got, open := <-deliveries:
			expect("the consumer is still there", open, true)
			checkDelivery(got, i)
			must(got.Ack(false), "ack")
		case <-timeout:
			fail("only %d of %d delivered in 30 s", i, messages)
		}
	}
	must(channel.Cancel("round", false), "cancel")
}

func main() {
	connection, err := amqp.Dial(os.Args[1])
	must(err, "connect")
	channel, err := connection.Channel()
	must(err, "open channel")
	declared, err := channel.QueueDeclare(queue, true, false, false, false, nil)
	must(err, "declare")
	expect("declare", declared.Messages, 0)
	checkErrors(connection)
	must(channel.Confirm(false), "confirm.select")
	publish(channel)
	checkMandatory(channel)
	declared, err = channel.QueueDeclarePassive(queue, true, false, false, false, nil)
	must(err, "passive declare")
	expect("messages after publishing", declared.Messages, messages)
	checkGet(channel)
	consume(channel)
	_, ok, err := channel.Get(queue, false)
	must(err, "get from the drained queue")
	expect("get from the drained queue", ok, false)
	deleted, err := channel.QueueDelete(queue, false, false, false)
	must(err, "delete")
	expect("deleted", deleted, 0)
	must(connection.Close(), "close")
	fmt.Println("amqp091-go: ok")
}
