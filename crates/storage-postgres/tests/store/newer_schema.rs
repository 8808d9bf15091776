//! The conformance suite on a schema that a newer release has expanded: each table has columns that this build does not know.

use larkauth_storage_postgres::testing::TestDatabase;

larkauth_storage::conformance_suite!(expanded().await);

async fn expanded() -> TestDatabase {
    let database = TestDatabase::create().await;
    let mut db = database.connection().await;
    let expand = "
        do $$
        declare name text;
        begin
            for name in select tablename from pg_tables where schemaname = 'public' and tablename <> '_sqlx_migrations' loop
                execute format('alter table %I add column of_later text, add column flag_of_later boolean not null default true', name);
            end loop;
        end $$;
        create table things_of_later (id bigint primary key);
        insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (999, 'later', true, 'x', 0)";
    sqlx::raw_sql(expand).execute(&mut db).await.unwrap();
    database
}
