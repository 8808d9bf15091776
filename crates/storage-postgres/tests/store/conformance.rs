//! The conformance suite on PostgreSQL.

use larkauth_storage_postgres::testing::TestDatabase;

larkauth_storage::conformance_suite!(TestDatabase::create().await);
