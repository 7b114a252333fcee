//! Files through a real door and real hands, under each isolation. The gateway need not be up for it.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::{
    harness::{As, DOOR_TOKEN, Instance, SERVICE_UID, TENANT_UID, http},
    skipped::is_root,
};

fn serves_files(isolation: &str, who: As) {
    let instance = Instance::start(isolation, who);
    let socket = instance.dir.path().join("run/out/door.sock");
    crate::harness::eventually("a listener", std::time::Duration::from_secs(30), || socket.exists());
    let ask = |method: &str, path: &str, body: Value| {
        let body = (!body.is_null()).then_some(body);
        http(&socket, method, path, DOOR_TOKEN, body.as_ref()).unwrap()
    };
    let post = |path: &str, body: Value| ask("POST", path, body);
    let get = |path: &str| ask("GET", path, Value::Null);

    let (status, made) = post("/files/write", json!({ "path": "/workspace/a/b", "content": "one" }));
    assert_eq!(status, 201, "{made}; {}", instance.door_log());
    let again = json!({ "path": "a/b", "content": "two", "if_match": made["etag"] });
    assert_eq!(post("/files/write", again).0, 200);
    assert_eq!(get("/files/read?path=/workspace/a/b").1["content"], "two");
    let on_disk = instance.dir.path().join("workspace/a/b");
    let owner = if who == As::Root { TENANT_UID } else { SERVICE_UID };
    assert_eq!(on_disk.metadata().unwrap().uid(), owner, "files are the tenant's");

    // Workspace and home may be mounted apart.
    let (status, moved) = post("/files/move", json!({ "from": "a", "to": "~/a" }));
    assert_eq!((status, &moved["type"]), (200, &"directory".into()), "{moved}");
    let (status, report) = post("/files/copy", json!({ "from": "~/a", "to": "back" }));
    assert_eq!((status, &report["files"]), (201, &1.into()), "{report}");
    let (status, found) = get("/files/search?path=/workspace&query=two");
    assert_eq!((status, &found["matches"][0]["line"]), (200, &1.into()), "{found}");
    let (_, listed) = get("/files?path=/workspace/back");
    assert_eq!(listed[0]["name"], "b");
    assert_eq!(post("/files/chmod", json!({ "path": "back/b", "mode": "0600" })).0, 200);
    assert_eq!(ask("DELETE", "/files?path=~/a&recursive=true", Value::Null).0, 204);
    assert_eq!(get("/files/stat?path=~/a").0, 404);

    // Neither the door's files nor the machine's.
    for path in ["/etc/passwd", "~/../run/in/boot.json", "/proc/1/environ"] {
        assert_eq!(get(&format!("/files/read?path={path}")).0, 400, "{path}");
    }
    let outside = instance.dir.path().join("workspace/out");
    std::os::unix::fs::symlink("/proc/self/fd/0", outside).unwrap();
    assert_eq!(get("/files/read?path=out").0, 400);
}

#[test]
fn real_files_under_bubblewrap_as_root() {
    if is_root() {
        serves_files("bubblewrap", As::Root);
    }
}

#[test]
fn real_files_under_bubblewrap_as_a_service() {
    if is_root() {
        serves_files("bubblewrap", As::Service);
    }
}

#[test]
fn real_files_under_landlock() {
    if is_root() {
        serves_files("landlock", As::Root);
    }
}

#[test]
fn real_files_without_isolation() {
    if is_root() {
        serves_files("none", As::Root);
    }
}
