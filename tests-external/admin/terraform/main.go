// What Terraform's provider for RabbitMQ does with every kind of resource, by the calls of the
// library that it is made with: create, read, list, change, read, create again, delete, read again
// (which must not be found), delete again.
//
//	terraform URL
//
// Prints a line for each kind. Ends with 1 at the first thing that is otherwise.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"

	rabbithole "github.com/michaelklishin/rabbit-hole/v2"
)

const vhost = "terra/form"

// resource is one kind: `want` is what reading gives after a step, as JSON.
type resource struct {
	kind   string
	create func() (*http.Response, error)
	change func() (*http.Response, error)
	read   func() (any, error)
	list   func() (any, error)
	delete func() (*http.Response, error)
	// What must stand in what is read, after creating and after changing it.
	created, changed map[string]any
}

func main() {
	client, err := rabbithole.NewClient(os.Args[1], "guest", "guest")
	check("client", err)
	expect("vhost of all", http.StatusCreated)(client.PutVhost(vhost, rabbithole.VhostSettings{}))
	all := rabbithole.Permissions{Configure: ".*", Write: ".*", Read: ".*"}
	expect("permissions of all")(client.UpdatePermissionsIn(vhost, "guest", all))
	for _, resource := range resources(client) {
		live(resource)
	}
	bindings(client)
	expect("vhost of all", http.StatusNoContent)(client.DeleteVhost(vhost))
}

func resources(client *rabbithole.Client) []resource {
	name := "a b/c%d+ü"
	return append(objects(client, name), people(client, name)...)
}

func objects(client *rabbithole.Client, name string) []resource {
	queue := rabbithole.QueueSettings{
		Type: "quorum", Durable: true, Arguments: map[string]any{"x-queue-type": "quorum", "x-max-length": 5},
	}
	exchange := rabbithole.ExchangeSettings{Type: "topic", Durable: true, Arguments: map[string]any{"alternate-exchange": "other"}}
	policy := func(limit int) rabbithole.Policy {
		return rabbithole.Policy{
			Pattern: "^none", ApplyTo: "queues", Priority: limit,
			Definition: rabbithole.PolicyDefinition{"max-length": limit},
		}
	}
	operator := func(limit int) rabbithole.OperatorPolicy {
		return rabbithole.OperatorPolicy{
			Pattern: "^none", ApplyTo: "queues", Priority: limit,
			Definition: rabbithole.PolicyDefinition{"max-length": limit},
		}
	}
	shovel := func(queue string) rabbithole.ShovelDefinition {
		return rabbithole.ShovelDefinition{
			SourceURI: rabbithole.URISet{"amqp://"}, SourceQueue: queue,
			DestinationURI: rabbithole.URISet{"amqp://"}, DestinationQueue: "there",
		}
	}
	upstream := func(prefetch int) rabbithole.FederationDefinition {
		return rabbithole.FederationDefinition{Uri: rabbithole.URISet{"amqp://there"}, PrefetchCount: prefetch}
	}
	return []resource{
		{
			kind:    "rabbitmq_queue",
			create:  func() (*http.Response, error) { return client.DeclareQueue(vhost, name, queue) },
			read:    func() (any, error) { return client.GetQueue(vhost, name) },
			list:    func() (any, error) { return client.ListQueuesIn(vhost) },
			delete:  func() (*http.Response, error) { return client.DeleteQueue(vhost, name) },
			created: map[string]any{"name": name, "vhost": vhost, "durable": true, "type": "quorum"},
		},
		{
			kind:    "rabbitmq_exchange",
			create:  func() (*http.Response, error) { return client.DeclareExchange(vhost, name, exchange) },
			read:    func() (any, error) { return client.GetExchange(vhost, name) },
			list:    func() (any, error) { return client.ListExchangesIn(vhost) },
			delete:  func() (*http.Response, error) { return client.DeleteExchange(vhost, name) },
			created: map[string]any{"name": name, "vhost": vhost, "type": "topic", "durable": true},
		},
		{
			kind:    "rabbitmq_policy",
			create:  func() (*http.Response, error) { return client.PutPolicy(vhost, name, policy(1)) },
			change:  func() (*http.Response, error) { return client.PutPolicy(vhost, name, policy(2)) },
			read:    func() (any, error) { return client.GetPolicy(vhost, name) },
			list:    func() (any, error) { return client.ListPoliciesIn(vhost) },
			delete:  func() (*http.Response, error) { return client.DeletePolicy(vhost, name) },
			created: map[string]any{"vhost": vhost, "pattern": "^none", "apply-to": "queues", "priority": 1.0},
			changed: map[string]any{"priority": 2.0, "definition": map[string]any{"max-length": 2.0}},
		},
		{
			kind:    "rabbitmq_operator_policy",
			create:  func() (*http.Response, error) { return client.PutOperatorPolicy(vhost, name, operator(1)) },
			change:  func() (*http.Response, error) { return client.PutOperatorPolicy(vhost, name, operator(2)) },
			read:    func() (any, error) { return client.GetOperatorPolicy(vhost, name) },
			list:    func() (any, error) { return client.ListOperatorPoliciesIn(vhost) },
			delete:  func() (*http.Response, error) { return client.DeleteOperatorPolicy(vhost, name) },
			created: map[string]any{"vhost": vhost, "pattern": "^none", "priority": 1.0},
			changed: map[string]any{"priority": 2.0},
		},
		{
			kind:    "rabbitmq_shovel",
			create:  func() (*http.Response, error) { return client.DeclareShovel(vhost, name, shovel("one")) },
			change:  func() (*http.Response, error) { return client.DeclareShovel(vhost, name, shovel("two")) },
			read:    func() (any, error) { return client.GetShovel(vhost, name) },
			list:    func() (any, error) { return client.ListShovelsIn(vhost) },
			delete:  func() (*http.Response, error) { return client.DeleteShovel(vhost, name) },
			created: map[string]any{"vhost": vhost, "component": "shovel"},
		},
		{
			kind:    "rabbitmq_federation_upstream",
			create:  func() (*http.Response, error) { return client.PutFederationUpstream(vhost, name, upstream(1)) },
			change:  func() (*http.Response, error) { return client.PutFederationUpstream(vhost, name, upstream(2)) },
			read:    func() (any, error) { return client.GetFederationUpstream(vhost, name) },
			list:    func() (any, error) { return client.ListFederationUpstreamsIn(vhost) },
			delete:  func() (*http.Response, error) { return client.DeleteFederationUpstream(vhost, name) },
			created: map[string]any{"vhost": vhost, "component": "federation-upstream"},
		},
	}
}

func people(client *rabbithole.Client, name string) []resource {
	user := func(password string, tags ...string) rabbithole.UserSettings {
		return rabbithole.UserSettings{Password: password, Tags: tags}
	}
	permissions := func(read string) rabbithole.Permissions {
		return rabbithole.Permissions{Configure: "^c", Write: "^w", Read: read}
	}
	topic := func(read string) rabbithole.TopicPermissions {
		return rabbithole.TopicPermissions{Exchange: "amq.topic", Write: "^w", Read: read}
	}
	settings := func(text string) rabbithole.VhostSettings { return rabbithole.VhostSettings{Description: text} }
	other := "of " + name
	return []resource{
		{
			kind:    "rabbitmq_vhost",
			create:  func() (*http.Response, error) { return client.PutVhost(other, settings("one")) },
			change:  func() (*http.Response, error) { return client.PutVhost(other, settings("two")) },
			read:    func() (any, error) { return client.GetVhost(other) },
			list:    func() (any, error) { return client.ListVhosts() },
			delete:  func() (*http.Response, error) { return client.DeleteVhost(other) },
			created: map[string]any{"name": other, "description": "one"},
			changed: map[string]any{"description": "two"},
		},
		{
			kind:    "rabbitmq_user",
			create:  func() (*http.Response, error) { return client.PutUser(name, user("one", "management")) },
			change:  func() (*http.Response, error) { return client.PutUser(name, user("two", "management", "policymaker")) },
			read:    func() (any, error) { return client.GetUser(name) },
			list:    func() (any, error) { return client.ListUsers() },
			delete:  func() (*http.Response, error) { return client.DeleteUser(name) },
			created: map[string]any{"name": name, "tags": "management"},
			changed: map[string]any{"tags": "management,policymaker"},
		},
		{
			kind: "rabbitmq_permissions",
			create: func() (*http.Response, error) {
				return client.UpdatePermissionsIn("/", owner(client), permissions("^1"))
			},
			change: func() (*http.Response, error) {
				return client.UpdatePermissionsIn("/", owner(client), permissions("^2"))
			},
			read:    func() (any, error) { return found(client.GetPermissionsIn("/", owner(client))) },
			list:    func() (any, error) { return client.ListPermissionsOf(owner(client)) },
			delete:  func() (*http.Response, error) { return client.ClearPermissionsIn("/", owner(client)) },
			created: map[string]any{"vhost": "/", "configure": "^c", "write": "^w", "read": "^1"},
			changed: map[string]any{"read": "^2"},
		},
		{
			kind: "rabbitmq_topic_permissions",
			create: func() (*http.Response, error) {
				return client.UpdateTopicPermissionsIn("/", owner(client), topic("^1"))
			},
			change: func() (*http.Response, error) {
				return client.UpdateTopicPermissionsIn("/", owner(client), topic("^2"))
			},
			read:    func() (any, error) { return first(client.GetTopicPermissionsIn("/", owner(client))) },
			list:    func() (any, error) { return client.ListTopicPermissionsOf(owner(client)) },
			delete:  func() (*http.Response, error) { return client.ClearTopicPermissionsIn("/", owner(client)) },
			created: map[string]any{"vhost": "/", "exchange": "amq.topic", "write": "^w", "read": "^1"},
			changed: map[string]any{"read": "^2"},
		},
	}
}

// live has a resource live its life.
func live(it resource) {
	step := func(name string) string { return it.kind + ": " + name }
	expect(step("create"), http.StatusCreated)(it.create())
	read(step("read"), it, it.created)
	if it.change != nil {
		expect(step("change"), http.StatusNoContent)(it.change())
		read(step("read what has changed"), it, it.changed)
	} else {
		expect(step("create again"), http.StatusNoContent)(it.create())
	}
	listed, err := it.list()
	check(step("list"), err)
	if list := reflect.ValueOf(listed); list.Len() == 0 {
		fail(step("list"), "it is empty")
	}
	expect(step("delete"), http.StatusNoContent)(it.delete())
	_, err = it.read()
	var answered rabbithole.ErrorResponse
	if !errors.As(err, &answered) || answered.StatusCode != http.StatusNotFound {
		fail(step("read what is gone"), fmt.Sprintf("%v", err))
	}
	// The library takes 404 for success here.
	expect(step("delete again"))(it.delete())
	fmt.Println("ok:", it.kind)
}

func read(step string, it resource, want map[string]any) {
	got, err := it.read()
	check(step, err)
	text, err := json.Marshal(got)
	check(step, err)
	var fields map[string]any
	check(step, json.Unmarshal(text, &fields))
	for key, value := range want {
		if !reflect.DeepEqual(fields[key], value) {
			fail(step, fmt.Sprintf("%s is %v and not %v", key, fields[key], value))
		}
	}
}

// bindings have no names: the provider takes the last part of Location for one.
func bindings(client *rabbithole.Client) {
	queue, exchange := "bound q", "bound/x"
	expect("queue", http.StatusCreated)(client.DeclareQueue(vhost, queue, rabbithole.QueueSettings{Durable: true}))
	expect("exchange", http.StatusCreated)(client.DeclareExchange(vhost, exchange, rabbithole.ExchangeSettings{Type: "headers", Durable: true}))
	for _, arguments := range []map[string]any{{}, {"x-match": "all", "n": 1}} {
		for _, key := range []string{"", "#", "a.b/c d%e+f~"} {
			info := rabbithole.BindingInfo{
				Source: exchange, Vhost: vhost, Destination: queue, DestinationType: "queue",
				RoutingKey: key, Arguments: arguments,
			}
			response, err := client.DeclareBinding(vhost, info)
			expect("bind", http.StatusCreated)(response, err)
			parts := strings.Split(response.Header.Get("Location"), "/")
			properties, err := url.QueryUnescape(parts[len(parts)-1])
			check("Location", err)
			listed, err := client.ListBindingsIn(vhost)
			check("list bindings", err)
			count := 0
			for _, binding := range listed {
				if binding.Source == exchange && binding.PropertiesKey == properties {
					count++
				}
			}
			if count != 1 {
				fail("binding", fmt.Sprintf("%q: %d of it", properties, count))
			}
			info.PropertiesKey = properties
			expect("unbind", http.StatusNoContent)(client.DeleteBinding(vhost, info))
		}
	}
	fmt.Println("ok: rabbitmq_binding")
}

// owner is a user that is there for others' permissions.
func owner(client *rabbithole.Client) string {
	const name = "terraform"
	if _, err := client.GetUser(name); err != nil {
		expect("user")(client.PutUser(name, rabbithole.UserSettings{Password: "p"}))
	}
	return name
}

func found[T any](value T, err error) (any, error) { return value, err }

func first[T any](values []T, err error) (any, error) {
	if err != nil || len(values) == 0 {
		return nil, err
	}
	return values[0], nil
}

// expect checks the answer to a change: one of these, or anything that is no error.
func expect(step string, statuses ...int) func(*http.Response, error) {
	return func(response *http.Response, err error) {
		check(step, err)
		for _, status := range statuses {
			if response.StatusCode != status {
				fail(step, response.Status)
			}
		}
	}
}

func check(step string, err error) {
	if err != nil {
		fail(step, err.Error())
	}
}

func fail(step, what string) {
	fmt.Printf("FAILED: %s: %s\n", step, what)
	os.Exit(1)
}
