//! The suite of all buses, on RabbitMQ.

use larkauth_messaging::testing::TestBus;

larkauth_messaging::bus_conformance!(TestBus::fast());
