use std::net::TcpListener;

use crate::stage::{APP_ID, APP_SECRET, Stage};

#[tokio::test]
async fn standalone_with_taken_address_changes_nothing() {
    let mut stage = Stage::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    stage.set("APP_ID", APP_ID);
    stage.set("APP_SECRET", APP_SECRET);
    for setting in ["HTTP_ADDR", "PUBLIC_HTTP_ADDR"] {
        stage.set("HTTP_ADDR", "127.0.0.1:0");
        stage.set(setting, address.clone());
        let ended = stage.run("standalone").await.with(1);
        assert!(
            ended.err.contains(&format!("{setting} {address}")) && ended.err.contains("free"),
            "{}",
            ended.err
        );
        let mut db = stage.database.connection().await;
        let rows: i64 = sqlx::query_scalar(
            "select (select count(*) from applications) + (select count(*) from job_ticks)
                  + (select count(*) from audit_log)",
        )
        .fetch_one(&mut db)
        .await
        .unwrap();
        assert_eq!(rows, 0, "{setting}");
    }
}
