//! The conformance suite on a schema that a newer release has expanded: each table has columns that this build does not know.

use larkauth_storage_sqlite::testing::TestSqlite;
use sqlx::AssertSqlSafe;

larkauth_storage::conformance_suite!(expanded().await);

async fn expanded() -> TestSqlite {
    let database = TestSqlite::create().await;
    let mut db = database.connection().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select name from sqlite_schema where type = 'table' and name not like 'sqlite%' and name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut db)
    .await
    .unwrap();
    let mut expand = String::from(
        "create table things_of_later (id integer primary key);
         insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (999, 'later', true, x'00', 0);",
    );
    for table in tables {
        expand += &format!(
            "alter table {table} add column of_later text; alter table {table} add column flag_of_later integer not null default 1;"
        );
    }
    sqlx::raw_sql(AssertSqlSafe(expand)).execute(&mut db).await.unwrap();
    database
}
