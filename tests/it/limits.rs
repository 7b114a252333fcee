//! How much at once: sockets, streams and waits.

use reef_model::InstanceId;
use reef_testkit::{
    Account, Answer, Caps, Client, Events, Platform, Setup, Socket, both_engines, eventually,
};
use serde_json::json;

/// So many of one, and enough of the others.
fn caps(choose: impl FnOnce(&mut Caps)) -> Setup {
    let mut caps = Caps::default();
    choose(&mut caps);
    Setup { caps, ..Setup::default() }
}

async fn open(client: &Client, id: InstanceId) -> Result<Socket, Answer> {
    client.call("GET", &format!("/api/instances/{id}/terminal/ws")).open().await
}

async fn follow(client: &Client) -> Events {
    let mut events = client.call("GET", "/api/events").events().await;
    events.expect().await;
    events
}

fn expect_cap(answer: &Answer, limit: u32, cap: &str) {
    let error = answer.expect_error(429, "QUOTA_EXCEEDED");
    let details = &error["error"]["details"];
    assert_eq!((&details["limit"], &details["cap"]), (&json!(limit), &json!(cap)), "{error}");
    assert!(answer.header("retry-after").is_some());
}

async fn another_key(account: &Account, platform: &Platform) -> Client {
    let minted = account.post("/api/keys", json!({"name": "another"})).await.expect(201);
    platform.anonymous().with_key(minted["secret"].as_str().unwrap())
}

both_engines! {
    async fn sockets_of_a_key(database: TestDatabase) {
        let platform = Platform::start_with(database, caps(|caps| caps.sockets = 2)).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let (first, _second) = (open(&ada, id).await.ok().unwrap(), open(&ada, id).await.ok().unwrap());
        let before = platform.runtime().received(id).len();
        expect_cap(&open(&ada, id).await.err().unwrap(), 2, "sockets of this key or session");
        assert_eq!(platform.runtime().received(id).len(), before, "the door was not asked");
        // Streams are counted apart, and other keys too.
        drop(follow(&ada).await);
        let other = another_key(&ada, &platform).await;
        open(&other, id).await.ok().unwrap();
        // A socket that has ended makes room.
        drop(first);
        eventually("room for another", async || open(&ada, id).await.ok()).await;
        platform.finish().await;
    }

    async fn streams_and_waits_of_a_key(database: TestDatabase) {
        let platform = Platform::start_with(database, caps(|caps| caps.streams = 2)).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let first = follow(&ada).await;
        let _second = follow(&ada).await;
        let what = "streams and waits of this key or session";
        expect_cap(&ada.get("/api/events").await, 2, what);
        expect_cap(&ada.post(&format!("/api/instances/{id}/chat/stream"), json!({"message": "hi"})).await, 2, what);
        expect_cap(&ada.post(&format!("/api/instances/{id}/restart?wait=10"), json!({})).await, 2, what);
        assert!(platform.runtime().received(id).is_empty());
        // What is answered at once needs no seat.
        ada.get(&format!("/api/instances/{id}/chat/sessions")).await.expect(200);
        drop(first);
        let room = async || (ada.get(&format!("/api/instances/{id}/files/search")).await.status != 429).then_some(());
        eventually("room for another", room).await;
        platform.finish().await;
    }

    async fn all_of_an_account_an_instance_and_an_address(database: TestDatabase) {
        let platform = Platform::start_with(database, caps(|caps| (caps.instance, caps.account, caps.address) = (1, 2, 4))).await;
        let (ada, bob) = (platform.account("ada").await, platform.account("bob").await);
        let (one, two) = (ada.ready_instance(&platform).await, ada.ready_instance(&platform).await);
        let bobs = bob.ready_instance(&platform).await;
        let _first = open(&ada, one).await.ok().unwrap();
        expect_cap(&open(&ada, one).await.err().unwrap(), 1, "sockets, streams and waits on this instance");
        let _second = open(&another_key(&ada, &platform).await, two).await.ok().unwrap();
        expect_cap(&ada.get("/api/events").await, 2, "sockets, streams and waits of this account");
        let _third = open(&bob, bobs).await.ok().unwrap();
        let _fourth = follow(&bob).await;
        let carol = platform.account("carol").await;
        expect_cap(&carol.get("/api/events").await, 4, "sockets, streams and waits from your address");
        platform.finish().await;
    }
}
