use std::net::TcpListener;

use crate::stage::{APP_ID, APP_SECRET, Stage};

const HANGUP: u64 = 1;

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

#[tokio::test]
async fn standalone_stops_in_order_on_hangup_unless_started_by_nohup() {
    let mut stage = Stage::new().await;
    stage.set("RUST_LOG", "info");
    let running = stage.standalone().await;
    running.signal("HUP");
    let ended = running.end().await.with(0);
    assert!(ended.err.contains("stopping"), "{}", ended.err);

    let running = stage.start_without_hangup(&["standalone"]).await;
    running.says("larkauth is running").await;
    running.signal("HUP");
    assert_eq!(running.signals("SigIgn") & HANGUP, HANGUP, "it is still ignored");
    assert_eq!(running.signals("SigCgt") & HANGUP, 0);
    running.terminate().await.with(0);
}

#[tokio::test]
async fn commands_with_invalid_rust_log_end_as_with_any_wrong_setting() {
    let mut stage = Stage::new().await;
    stage.set("RUST_LOG", "info,=,=");
    for command in ["standalone", "doctor", "apps list", "demo --auto"] {
        let ended = stage.run(command).await.with(2);
        assert!(ended.err.contains("RUST_LOG is invalid: write directives like"), "{command}: {}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{command}: {}", ended.err);
    }
}

#[tokio::test]
async fn standalone_with_unusable_data_folder_ends_as_with_any_wrong_setting() {
    let mut stage = Stage::new().await;
    stage.set("DATA_DIR", "/dev/null/larkauth");
    let ended = stage.run("standalone").await.with(2);
    assert!(ended.err.contains("DATA_DIR: the folder `/dev/null/larkauth` cannot be made"), "{}", ended.err);
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}

#[tokio::test]
async fn commands_with_address_that_a_driver_refuses_end_as_with_any_wrong_setting() {
    let mut stage = Stage::new().await;
    stage.set("DATABASE_URL", "postgres://u:s3cret@127.0.0.1/x?statement-cache-capacity=many");
    for command in ["standalone", "apps list"] {
        let ended = stage.run(command).await.with(2);
        assert!(ended.err.contains("DATABASE_URL: ") && !ended.err.contains("s3cret"), "{}", ended.err);
        assert_eq!(ended.err.lines().count(), 1, "{command}: {}", ended.err);
    }
}
