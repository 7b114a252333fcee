//! SIGTERM in the middle of a stream: a load balancer sees it coming, and what was begun ends whole.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};

use crate::{
    first_five_minutes::assert_stream_is_whole,
    platform::{Platform, http_client},
    sse::SseEvent,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the test: only a second signal ends it.
const DELAY_SECONDS: &str = "600";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_stop_mid_stream_is_told_first_and_cuts_nothing() {
    let mut platform = Platform::start(&[("REEF_SHUTDOWN_DELAY_SECONDS", DELAY_SECONDS)]).await;
    let client = platform.operator().await;
    let instance = client.instance().await;
    let words = (1..=40).map(|number| format!("w{number}")).collect::<Vec<_>>().join(" ");
    let mut stream = client.stream(&instance, json!({"message": words})).await;
    let mut events = stream.until(|event| event.name == "message.delta").await;

    kill(platform.pid(), Signal::SIGTERM).unwrap();
    let draining = tokio::time::timeout(PATIENCE, async {
        loop {
            // Each look is a new connection.
            let look = http_client().get(format!("{}/readyz", platform.base())).send().await.unwrap();
            if look.status() == 503 {
                return look.json::<Value>().await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(draining.await.expect("503")["status"], "draining");
    let newcomer = http_client().get(format!("{}/api/instances", platform.base())).bearer_auth(&client.key);
    assert_eq!(newcomer.send().await.unwrap().status(), 200, "whoever was sent here still is served");

    kill(platform.pid(), Signal::SIGTERM).unwrap();
    events.extend(stream.until(SseEvent::is_terminal).await);
    assert_stream_is_whole(&events);
    assert_eq!(stream.next().await, None);
    assert!(platform.ended().await.success(), "{}", platform.output());
}
