//! WebSockets through the control plane: who may open them, and how they end.

use std::time::{Duration, Instant};

use reef_model::InstanceId;
use reef_testkit::{Account, Client, Platform, Socket, both_engines, eventually};
use serde_json::json;

const SECOND: Duration = Duration::from_secs(1);

fn terminal(id: InstanceId) -> String {
    format!("/api/instances/{id}/terminal/ws")
}

async fn open(client: &Client, id: InstanceId) -> Socket {
    let mut socket =
        client.call("GET", &terminal(id)).open().await.unwrap_or_else(|answer| panic!("{answer:?}"));
    assert_eq!(socket.echo(b"hello").await, b"hello");
    socket
}

/// Returns a key of the account and the id that it is revoked by.
async fn mint(account: &Account) -> (String, String) {
    let minted = account.post("/api/keys", json!({"name": "k"})).await.expect(201);
    (minted["secret"].as_str().unwrap().to_owned(), minted["id"].as_str().unwrap().to_owned())
}

async fn ticket(client: &Client, route: &str) -> String {
    let made = client.post("/api/auth/ticket", json!({"route": route})).await.expect(200);
    made["ticket"].as_str().unwrap().to_owned()
}

/// Returns a browser in which the account is signed in.
async fn browser(platform: &Platform, account: &Account) -> Client {
    let body = json!({"email": account.email, "password": account.password});
    let answer = platform.anonymous().post("/api/auth/login", body).await;
    platform.anonymous().with_cookie(&answer.cookie().unwrap())
}

both_engines! {
    async fn a_key_opens_a_socket_in_three_ways(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = terminal(id);
        let nobody = platform.anonymous();
        // By header.
        assert_eq!(open(&ada, id).await.protocol, None);
        // By a subprotocol, beside one of the route's own or the plain one; the key is never chosen.
        let offered = format!("reef.bearer.{}, binary", ada.secret);
        let call = nobody.call("GET", &path).header("sec-websocket-protocol", &offered);
        assert_eq!(call.open().await.ok().unwrap().protocol.as_deref(), Some("binary"));
        let offered = format!("reef, reef.bearer.{}", ada.secret);
        let call = nobody.call("GET", &path).header("sec-websocket-protocol", &offered);
        assert_eq!(call.open().await.ok().unwrap().protocol.as_deref(), Some("reef"));
        // By ticket.
        let ticket = ticket(&ada, &path).await;
        let call = nobody.call("GET", &format!("{path}?cols=80&ticket={ticket}"));
        assert_eq!(call.open().await.ok().unwrap().echo(b"x").await, b"x");
        let received = platform.runtime().received(id);
        assert_eq!(received[3].target, "/terminal/ws?cols=80");
        assert_eq!(received[2].headers["sec-websocket-protocol"], "reef");
        for request in received {
            assert!(request.headers.contains_key("x-reef-socket"));
            assert!(!format!("{request:?}").contains(&ada.secret), "the door learns no key");
        }
        platform.finish().await;
    }

    async fn a_key_alone_is_no_subprotocol(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let offer = |text: String| platform.anonymous().call("GET", &terminal(id)).header("sec-websocket-protocol", &text);
        let refused = offer(format!("reef.bearer.{}", ada.secret)).open().await.err().unwrap();
        let error = refused.expect_error(400, "INVALID_REQUEST");
        assert!(error["message"].as_str().unwrap().contains("\"reef\""), "{error}");
        let refused = offer("reef.bearer.sk_live_no, reef".to_owned()).open().await.err().unwrap();
        refused.expect_error(401, "UNAUTHORIZED");
        assert!(platform.runtime().received(id).is_empty());
        platform.finish().await;
    }

    async fn a_ticket_is_for_one_path_once(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let path = terminal(id);
        let with = |path: &str, ticket: &str| platform.anonymous().call("GET", &format!("{path}?ticket={ticket}"));
        let used = ticket(&ada, &path).await;
        with(&format!("/api/instances/{id}/vnc/ws"), &used).open().await.err().unwrap().expect_error(401, "UNAUTHORIZED");
        with(&path, &used).open().await.ok().unwrap();
        with(&path, &used).open().await.err().unwrap().expect_error(401, "UNAUTHORIZED");
        // An EventSource comes with one too.
        let watch = format!("/api/instances/{id}/files/watch");
        let (script, door) = reef_testkit::Script::stream();
        platform.runtime().script(id, "/files/watch", script);
        door.write("id: 1\nevent: ready\ndata: {\"change\": \"ready\", \"path\": \"/workspace\"}\n\n").await;
        let mut events = with(&watch, &ticket(&ada, &watch).await).events().await;
        assert_eq!(events.expect().await.name, "ready");
        drop((events, door));
        // A ticket is worth what its key is worth by now.
        let (secret, key) = mint(&ada).await;
        let late = ticket(&platform.anonymous().with_key(&secret), &path).await;
        ada.delete(&format!("/api/keys/{key}")).await.expect(204);
        with(&path, &late).open().await.err().unwrap().expect_error(401, "UNAUTHORIZED");
        platform.finish().await;
    }

    async fn a_page_of_another_site_opens_none(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let own = browser(&platform, &ada).await;
        open(&own, id).await;
        let before = platform.runtime().received(id).len();
        let base = platform.anonymous().base().to_owned();
        let https = base.replace("http://", "https://");
        for foreign in ["https://evil.example", "null", &https, &format!("http://{id}.localhost:8080")] {
            let call = own.with_header("origin", foreign).call("GET", &terminal(id));
            call.open().await.err().unwrap().expect_error(403, "FORBIDDEN");
        }
        assert_eq!(platform.runtime().received(id).len(), before, "the door was not asked");
        // A key is not sent by a browser of itself: whoever has it may use it from anywhere.
        open(&ada.with_header("origin", "https://else.example"), id).await;
        platform.finish().await;
    }

    async fn a_plain_request_is_told_to_upgrade(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        for route in ["terminal/ws", "vnc/ws"] {
            let answer = ada.get(&format!("/api/instances/{id}/{route}")).await;
            answer.expect_error(426, "INVALID_REQUEST");
            assert_eq!(answer.header("upgrade"), Some("websocket"));
        }
        assert!(platform.runtime().received(id).is_empty());
        platform.finish().await;
    }

    async fn revoking_a_key_closes_its_sockets_with_a_reason(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let elsewhere = platform.another_replica().await;
        let (id, rude) = (ada.ready_instance(&platform).await, ada.ready_instance(&platform).await);
        platform.runtime().be_rude(rude);
        let (secret, key) = mint(&ada).await;
        let here = platform.anonymous().with_key(&secret);
        let there = elsewhere.anonymous().with_key(&secret);
        let sockets = [open(&here, id).await, open(&there, id).await];
        let ignored = open(&here, rude).await;
        let mut kept = open(&ada, id).await;
        ada.delete(&format!("/api/keys/{key}")).await.expect(204);
        let begun = Instant::now();
        for socket in sockets {
            assert_eq!(socket.closed().await, Some((4401, "this credential was revoked".to_owned())));
        }
        assert_eq!(ignored.closed().await, None, "a door that does not say why is cut");
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        assert_eq!(kept.echo(b"still").await, b"still");
        drop(kept);
        elsewhere.finish().await;
        platform.finish().await;
    }

    async fn signing_out_closes_the_sockets_of_the_browser(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let browser = browser(&platform, &ada).await;
        let socket = open(&browser, id).await;
        browser.call("POST", "/api/auth/logout").send().await.expect(204);
        let begun = Instant::now();
        assert_eq!(socket.closed().await.unwrap().0, 4401);
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        platform.finish().await;
    }

    async fn stop_restart_and_delete_close_sockets_at_once_however_much_drains(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let elsewhere = platform.another_replica().await;
        let there = ada.at(elsewhere.anonymous());
        let mut ids = Vec::new();
        for _ in 0..9 {
            ids.push(ada.ready_instance(&platform).await);
        }
        let (going, draining) = ids.split_at(4);
        let mut kept = open(&there, going[3]).await;
        // Both replicas are busy with the stops of others.
        platform.runtime().hang_stops();
        for id in draining {
            ada.call("POST", &format!("/api/instances/{id}/stop")).send().await.expect(202);
        }
        eventually("five drain", async || (platform.runtime().stopping() == 5).then_some(())).await;
        let verbs = [("POST", "/stop"), ("POST", "/restart"), ("DELETE", "")];
        for (id, (method, verb)) in going.iter().zip(verbs) {
            let sockets = [open(&ada, *id).await, open(&there, *id).await];
            let begun = Instant::now();
            ada.call(method, &format!("/api/instances/{id}{verb}")).send().await.expect(202);
            for socket in sockets {
                assert_eq!(socket.closed().await, Some((1001, "the instance is stopping".to_owned())));
            }
            assert!(begun.elapsed() < SECOND, "{verb}: {:?}", begun.elapsed());
        }
        assert_eq!(kept.echo(b"still").await, b"still");
        drop(kept);
        platform.runtime().heal();
        elsewhere.finish().await;
        platform.finish().await;
    }

    async fn a_server_that_goes_down_says_so(database: TestDatabase) {
        let platform = Platform::start(database).await;
        let ada = platform.account("ada").await;
        let id = ada.ready_instance(&platform).await;
        let elsewhere = platform.another_replica().await;
        let socket = open(&ada.at(elsewhere.anonymous()), id).await;
        let mut kept = open(&ada, id).await;
        let (closed, ()) = tokio::join!(socket.closed(), elsewhere.finish());
        assert_eq!(closed.unwrap().0, 1012);
        assert_eq!(kept.echo(b"here").await, b"here");
        drop(kept);
        platform.finish().await;
    }
}
