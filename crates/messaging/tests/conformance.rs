//! The suite of `larkauth_messaging::conformance` against a real RabbitMQ.

use larkauth_messaging::testing::TestBus;

larkauth_messaging::bus_conformance!(TestBus::fast());
