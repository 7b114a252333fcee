//! Every statement, the schemas, and what the statements promise, on both engines.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod instances;
mod schema;

use reef_db::{Db, NewInstance, NewUser, Tx};
use reef_model::{Desired, InstanceId, Plan, Role, RuntimeKind, Timestamp, UserId};
use reef_testdb::TestDatabase;

async fn open(database: &TestDatabase) -> Db {
    let db = Db::connect(database.url(), 8).await.unwrap();
    db.migrate().await.unwrap();
    db
}

/// The instant `seconds` after a fixed one.
fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_micros(1_775_272_200_123_456) + std::time::Duration::from_secs(seconds)
}

async fn insert_user(tx: &mut Tx, email: &str) -> UserId {
    let id = UserId::generate();
    let new = NewUser {
        id,
        email: email.to_owned(),
        name: None,
        password_hash: "$argon2id$".to_owned(),
        role: Role::User,
        created_at: at(0),
    };
    tx.insert_user(&new).await.unwrap();
    id
}

fn new_instance(tenant: UserId) -> NewInstance {
    NewInstance {
        id: InstanceId::generate(),
        user_id: tenant,
        name: "claw".to_owned(),
        plan: Plan::Solo,
        runtime: RuntimeKind::Process,
        image: None,
        env_enc: vec![0, 159, 146, 150],
        idle_timeout_seconds: Some(600),
        door_token_enc: vec![0, 1, 255],
        gateway_token_enc: vec![2],
        desired: Desired::Running,
        created_at: at(0),
    }
}
