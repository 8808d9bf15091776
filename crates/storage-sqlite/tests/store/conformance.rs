//! The conformance suite on SQLite.

use larkauth_storage_sqlite::testing::TestSqlite;

larkauth_storage::conformance_suite!(TestSqlite::create().await);
