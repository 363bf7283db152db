//! The administration interface over HTTP (RabbitMQ management API).
