//! The suite of all buses, on SQLite.

use larkauth_messaging_sqlite::testing::TestFile;

larkauth_messaging::bus_conformance!(TestFile::fast());
