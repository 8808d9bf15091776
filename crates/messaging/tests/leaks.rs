//! In a process of its own, because it counts threads: the driver has one per connection.
#![expect(clippy::unwrap_used, reason = "a test")]
#![cfg(target_os = "linux")]

use std::time::Duration;

use larkauth_messaging::{
    Bus, RabbitMq,
    testing::{TcpProxy, TestBus, eventually},
};

fn connections() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("lapin"))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_failed_or_closed_leave_no_thread() {
    let bed = TestBus::fast().await;
    let of_the_bed = connections();
    let proxy = TcpProxy::start(bed.target()).await;
    let mut options = bed.options();
    options.url = bed.url_through(proxy.address()).into();
    options.connect_deadline = Duration::from_millis(300);

    proxy.pause();
    for _ in 0..5 {
        RabbitMq::connect(options.clone()).await.unwrap_err();
    }
    eventually("failed attempts are gone", || async { connections() == of_the_bed }).await;

    proxy.resume();
    options.connect_deadline = Duration::from_secs(10);
    let closed = RabbitMq::connect(options.clone()).await.unwrap();
    let dropped = RabbitMq::connect(options.clone()).await.unwrap();
    let silent = RabbitMq::connect(options).await.unwrap();
    // Each has one connection for publishing and one for consuming.
    assert_eq!(connections(), of_the_bed + 2 * 3);
    closed.close().await;
    drop(dropped);
    proxy.pause();
    drop(silent);
    eventually("ended connections are gone", || async { connections() == of_the_bed }).await;
    bed.teardown().await;
}
