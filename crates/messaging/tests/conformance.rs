//! The suite of `larkauth_messaging::conformance` against each bus.

mod rabbitmq {
    use larkauth_messaging::testing::TestBus;

    larkauth_messaging::bus_conformance!(TestBus::fast());
}

mod embedded {
    use larkauth_messaging::testing::TestFile;

    larkauth_messaging::bus_conformance!(TestFile::fast());
}
