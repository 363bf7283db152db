//! How the node's refusals read on the wire.
//!
//! The node says why, in RabbitMQ's words; this file alone knows the codes (RabbitMQ 4.3,
//! reference 1.4).

use staunch_types::{Operation, Refusal};

use crate::error::{Fault, MethodId, ReplyCode};

/// The reply to `refusal` of `operation`. The code decides whether channel or connection closes.
pub(crate) fn fault(operation: Operation, refusal: &Refusal) -> Fault {
    let code = match refusal {
        Refusal::NotFound { .. } | Refusal::Unavailable(_) => ReplyCode::NotFound,
        Refusal::Inequivalent { .. }
        | Refusal::InvalidArgument { .. }
        | Refusal::UnknownExchangeType { .. }
        | Refusal::InUse { .. }
        | Refusal::NotEmpty { .. }
        | Refusal::InvalidName { .. }
        | Refusal::Precondition(_)
        | Refusal::LimitReached(_) => ReplyCode::PreconditionFailed,
        Refusal::QueueLocked { .. } | Refusal::ResourceLocked(_) => ReplyCode::ResourceLocked,
        Refusal::VhostNotFound { .. } | Refusal::NotAllowed(_) => ReplyCode::NotAllowed,
        Refusal::NotImplemented(_) => ReplyCode::NotImplemented,
        Refusal::ResourceError(_) => ReplyCode::ResourceError,
        Refusal::AccessRefused(_)
        | Refusal::QueueInExclusiveUse { .. }
        | Refusal::ReservedName { .. }
        | Refusal::DefaultExchange
        | Refusal::SystemResource { .. }
        | Refusal::InternalExchange { .. } => ReplyCode::AccessRefused,
    };
    Fault {
        code,
        text: refusal.to_string(),
        method: method_id(operation),
    }
}

/// Class and method of an operation.
fn method_id(operation: Operation) -> MethodId {
    match operation {
        Operation::Login => MethodId(10, 11),
        Operation::OpenVhost => MethodId(10, 40),
        // RabbitMQ blames no method when a channel is one too many.
        Operation::OpenChannel => MethodId::default(),
        Operation::Commit => MethodId(90, 20),
        Operation::DeclareExchange => MethodId(40, 10),
        Operation::DeleteExchange => MethodId(40, 20),
        Operation::BindExchange => MethodId(40, 30),
        Operation::UnbindExchange => MethodId(40, 40),
        Operation::DeclareQueue => MethodId(50, 10),
        Operation::BindQueue => MethodId(50, 20),
        Operation::PurgeQueue => MethodId(50, 30),
        Operation::DeleteQueue => MethodId(50, 40),
        Operation::UnbindQueue => MethodId(50, 50),
        Operation::LimitChannel => MethodId(60, 10),
        Operation::Consume => MethodId(60, 20),
        Operation::Cancel => MethodId(60, 30),
        Operation::Publish => MethodId(60, 40),
        Operation::Get => MethodId(60, 70),
        // The node does not know whether an ack, nack or reject settled; ack stands for all.
        Operation::Settle => MethodId(60, 80),
    }
}

#[cfg(test)]
mod tests {
    use staunch_types::{Name, Resource, refusal::ArgumentSide};

    use super::*;

    fn check(refusal: &Refusal, code: u16, text: &str) {
        let fault = fault(Operation::DeclareQueue, refusal);
        assert_eq!(
            (fault.code.code(), fault.to_string().as_str()),
            (code, text)
        );
        assert_eq!(fault.method, MethodId(50, 10));
    }

    fn inequivalent(argument: &str, received: ArgumentSide, current: ArgumentSide) -> Refusal {
        Refusal::Inequivalent {
            argument: argument.to_owned(),
            resource: Resource::Queue,
            name: Name::from_static("q"),
            vhost: Name::from_static("/"),
            received,
            current,
        }
    }

    #[test]
    fn texts_are_rabbitmqs() {
        let (name, vhost) = (Name::from_static("q"), Name::from_static("/"));
        check(
            &Refusal::NotFound {
                resource: Resource::Queue,
                name,
                vhost: vhost.clone(),
            },
            404,
            "NOT_FOUND - no queue 'q' in vhost '/'",
        );
        check(
            &Refusal::VhostNotFound { vhost },
            530,
            "NOT_ALLOWED - vhost / not found",
        );
        check(
            &Refusal::UnknownExchangeType {
                kind: Name::from_static("x"),
            },
            406,
            "PRECONDITION_FAILED - unknown exchange type 'x'",
        );
        check(
            &Refusal::DefaultExchange,
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        );
    }

    #[test]
    fn texts_of_the_node_are_passed_on() {
        let why = || "why".to_owned();
        check(
            &Refusal::Precondition(why()),
            406,
            "PRECONDITION_FAILED - why",
        );
        check(
            &Refusal::LimitReached(why()),
            406,
            "PRECONDITION_FAILED - why",
        );
        check(&Refusal::AccessRefused(why()), 403, "ACCESS_REFUSED - why");
        check(
            &Refusal::ResourceLocked(why()),
            405,
            "RESOURCE_LOCKED - why",
        );
        check(&Refusal::NotAllowed(why()), 530, "NOT_ALLOWED - why");
        check(
            &Refusal::NotImplemented(why()),
            540,
            "NOT_IMPLEMENTED - why",
        );
        check(&Refusal::ResourceError(why()), 506, "RESOURCE_ERROR - why");
    }

    #[test]
    fn texts_about_a_queue_or_exchange() {
        let (name, vhost) = (Name::from_static("q"), Name::from_static("/"));
        let queue = Resource::Queue;
        let names = || (name.clone(), vhost.clone());
        let (queue_name, vhost_name) = names();
        check(
            &Refusal::QueueLocked {
                queue: queue_name,
                vhost: vhost_name,
            },
            405,
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It \
             could be originally declared on another connection or the exclusive property value \
             does not match that of the original declaration.",
        );
        let (queue_name, vhost_name) = names();
        check(
            &Refusal::QueueInExclusiveUse {
                queue: queue_name,
                vhost: vhost_name,
            },
            403,
            "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
        );
        let (name, vhost) = names();
        check(
            &Refusal::InUse {
                resource: queue,
                name,
                vhost,
            },
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' in use",
        );
        let (queue_name, vhost_name) = names();
        check(
            &Refusal::NotEmpty {
                queue: queue_name,
                vhost: vhost_name,
            },
            406,
            "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
        );
        check(
            &Refusal::ReservedName {
                resource: queue,
                name: Name::from_static("amq.x"),
            },
            403,
            "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'",
        );
        let exchange = Name::from_static("amq.topic");
        check(
            &Refusal::SystemResource {
                resource: Resource::Exchange,
                name: exchange.clone(),
                vhost: Name::from_static("/"),
            },
            403,
            "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed",
        );
        check(
            &Refusal::InternalExchange {
                exchange,
                vhost: Name::from_static("/"),
            },
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'amq.topic' in vhost '/'",
        );
    }

    #[test]
    fn inequivalent_arguments_print_each_side_in_its_form() {
        let plain = |value: &str| ArgumentSide::Plain(value.to_owned());
        let typed = |value: &str, type_name| ArgumentSide::Typed {
            value: value.to_owned(),
            type_name,
        };
        check(
            &inequivalent("durable", plain("false"), plain("true")),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
             received 'false' but current is 'true'",
        );
        check(
            &inequivalent(
                "x-queue-type",
                ArgumentSide::None,
                typed("quorum", "longstr"),
            ),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': \
             received none but current is the value 'quorum' of type 'longstr'",
        );
        check(
            &inequivalent("x-max-length", typed("10", "signedint"), ArgumentSide::None),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': \
             received the value '10' of type 'signedint' but current is none",
        );
    }
}
