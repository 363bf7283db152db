//! RabbitMQ definitions files: JSON in, catalog commands out, and back.
