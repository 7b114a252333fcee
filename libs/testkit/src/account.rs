//! Somebody with an account and a key to it.

use std::ops::Deref;

use reef_control::Actor;
use reef_model::{ActorKind, InstanceId, UserId};
use serde_json::{Value, json};

use crate::{Client, Platform};

/// An account; calls as it with a key that has every scope.
#[derive(Clone)]
pub struct Account {
    /// Whose.
    pub user: UserId,
    /// Its address.
    pub email: String,
    /// Its password.
    pub password: String,
    /// The key's secret.
    pub secret: String,
    client: Client,
}

impl Deref for Account {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Account {
    pub(crate) fn new(
        user: UserId,
        email: String,
        password: String,
        secret: String,
        client: &Client,
    ) -> Self {
        let client = client.with_key(&secret);
        Self { user, email, password, secret, client }
    }

    /// Returns the account as verbs want it.
    pub fn actor(&self) -> Actor {
        Actor {
            tenant: self.user,
            kind: ActorKind::User,
            id: Some(self.user.to_string()),
            request_id: None,
            ip: None,
        }
    }

    /// Calls as this account at another replica.
    pub fn at(&self, client: &Client) -> Client {
        client.with_key(&self.secret)
    }

    /// Gives the right to one instance more.
    pub async fn entitle(&self, platform: &Platform) {
        let code = platform.invite_code(1).await;
        let accounts = platform.control().accounts();
        accounts.redeem_invite(&self.actor(), &code).await.unwrap();
    }

    /// Creates an instance, with an entitlement for it; it may still be coming up. Returns the answer's body.
    pub async fn create_instance(&self, platform: &Platform) -> Value {
        self.entitle(platform).await;
        self.post("/api/instances", json!({})).await.expect(201)
    }

    /// Creates an instance and waits until it is ready.
    pub async fn ready_instance(&self, platform: &Platform) -> InstanceId {
        self.entitle(platform).await;
        let made = self.post("/api/instances?wait=20", json!({})).await.expect(201);
        assert_eq!(made["status"], "ready", "{made}");
        made["id"].as_str().unwrap().parse().unwrap()
    }
}
