//! The platform of a test.

use std::{path::Path, sync::Arc, time::Duration};

use reef_api::{ApiState, Caps, RateLimits};
use reef_auth::ServerKey;
use reef_control::{
    Actor, Control, Policy,
    account::{Client as From, InviteTerms, NewKey, SignUp},
};
use reef_db::Db;
use reef_model::{Plan, Scopes, UserId};
use sqlx::{Connection, PgConnection};

use crate::{
    Account, Client, Contract, FakeRuntime, Mailbox, Replica, TestClock, TestDatabase, logs, replica::Means,
};

const DB_CONNECTIONS: u32 = 8;
const PASSWORD: &str = "correct horse battery staple";

/// What a test may choose.
pub struct Setup {
    /// Rate limits; by default so wide that no test meets them.
    pub limits: RateLimits,
    /// How much at once.
    pub caps: Caps,
    /// The operator's choices.
    pub policy: Policy,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: RateLimits::with(|_| (100_000, Duration::from_secs(60))),
            caps: Caps::default(),
            policy: Policy::default(),
        }
    }
}

/// A running platform with one replica.
pub struct Platform {
    replica: Replica,
    db: Db,
    runtime: Arc<FakeRuntime>,
    clock: Arc<TestClock>,
    key: ServerKey,
    contract: Arc<Contract>,
    mailbox: Mailbox,
    policy: Policy,
    // The last to go: the database is dropped with it.
    database: TestDatabase,
}

impl Platform {
    /// Starts a platform on an empty database.
    pub async fn start(database: TestDatabase) -> Self {
        Self::start_with(database, Setup::default()).await
    }

    /// Starts a platform on an empty database.
    pub async fn start_with(database: TestDatabase, setup: Setup) -> Self {
        logs::capture();
        let db = Db::connect(database.url(), DB_CONNECTIONS).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(TestClock::default());
        let runtime = FakeRuntime::new(clock.clone());
        let (key, contract) = (ServerKey::generate(), Arc::new(Contract::default()));
        let mailbox = Mailbox::default();
        let replica = Replica::start(Means {
            db: db.clone(),
            clock: clock.clone(),
            runtime: runtime.clone(),
            key: key.clone(),
            limits: setup.limits,
            caps: setup.caps,
            policy: setup.policy.clone(),
            contract: contract.clone(),
            mailbox: mailbox.clone(),
        })
        .await;
        Self { replica, db, runtime, clock, key, contract, mailbox, policy: setup.policy, database }
    }

    /// Starts another replica on the same database and the same runtime.
    ///
    /// On PostgreSQL it has connections of its own; SQLite knows one process only, so there the two share theirs.
    pub async fn another_replica(&self) -> Replica {
        let db = if self.database.is_postgres() {
            Db::connect(self.database.url(), DB_CONNECTIONS).await.unwrap()
        } else {
            self.db.clone()
        };
        Replica::start(Means {
            db,
            clock: self.clock.clone(),
            runtime: self.runtime.clone(),
            key: self.key.clone(),
            limits: Setup::default().limits,
            caps: Setup::default().caps,
            policy: self.policy.clone(),
            contract: self.contract.clone(),
            mailbox: self.mailbox.clone(),
        })
        .await
    }

    /// Kills the replica and puts a new one in its place.
    pub async fn kill_and_restart(&mut self) {
        let next = self.another_replica().await;
        std::mem::replace(&mut self.replica, next).kill();
    }

    /// Returns the verbs.
    pub fn control(&self) -> &Control {
        self.replica.control()
    }

    /// Returns what the replica's handlers have at hand.
    pub fn api(&self) -> &ApiState {
        self.replica.api()
    }

    /// Returns the database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Returns the place where instances run.
    pub fn runtime(&self) -> &FakeRuntime {
        &self.runtime
    }

    /// Returns where mail ends up.
    pub fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    /// Returns the OpenAPI document.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns a client without credentials.
    pub fn anonymous(&self) -> &Client {
        self.replica.anonymous()
    }

    /// Moves the clock and has the reconciler look at everything.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.runtime.nudge();
    }

    /// Makes an account named so, with a key that has every scope.
    pub async fn account(&self, name: &str) -> Account {
        let email = format!("{name}@example.org");
        let wish = SignUp {
            email: email.clone(),
            password: PASSWORD.into(),
            name: Some(name.to_owned()),
            invite_code: None,
        };
        let user = self.control().accounts().sign_up(wish, &From::default()).await.unwrap();
        self.with_key(user.id, email).await
    }

    /// Returns the operator, with a key that has every scope.
    pub async fn operator(&self) -> Account {
        let accounts = self.control().accounts();
        let email = "operator@example.org";
        let found = accounts.ensure_operator(Some(email), Some(PASSWORD.into())).await.unwrap();
        self.with_key(found.user.id, email.to_owned()).await
    }

    async fn with_key(&self, user: UserId, email: String) -> Account {
        let wish = NewKey { name: "test".into(), scopes: Some(Scopes::all()), ..NewKey::default() };
        let actor = Actor::system(user);
        let (_, secret) = self.control().accounts().mint_key(&actor, Scopes::all(), wish).await.unwrap();
        let secret = secret.expose().to_owned();
        Account::new(user, email, PASSWORD.to_owned(), secret, self.anonymous())
    }

    /// Makes an invite code for so many uses.
    pub async fn invite_code(&self, max_uses: i64) -> String {
        let operator = self.operator().await;
        let terms = InviteTerms { plan: Plan::Solo, max_uses, expires_at: None };
        let (_, code) = self.control().accounts().create_invite(&operator.actor(), terms).await.unwrap();
        code.expose().to_owned()
    }

    /// Returns the key that everything secret is derived from, as text.
    pub fn server_key(&self) -> String {
        self.key.expose()
    }

    /// Returns everything that was logged in this process.
    pub fn logs(&self) -> String {
        logs::captured()
    }

    /// Returns every byte that the database keeps: of SQLite its files, pages that are free again included; of
    /// PostgreSQL every row of every table as text.
    pub async fn dump(&self) -> Vec<u8> {
        if let Some(file) = self.database.url().strip_prefix("sqlite://") {
            let mut bytes = std::fs::read(file).unwrap();
            bytes.extend(std::fs::read(Path::new(&format!("{file}-wal"))).unwrap_or_default());
            return bytes;
        }
        let mut connection = PgConnection::connect(self.database.url()).await.unwrap();
        let tables: Vec<(String,)> =
            sqlx::query_as("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let mut text = String::new();
        for (table,) in tables {
            let sql = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
            let rows: Vec<(String,)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
            rows.into_iter().for_each(|(row,)| {
                text.push_str(&row);
                text.push('\n');
            });
        }
        text.into_bytes()
    }

    /// Ends the platform in good order.
    ///
    /// # Panics
    /// Where something is left over: an open request, work that was done twice.
    pub async fn finish(self) {
        self.replica.finish().await;
        assert_eq!(self.runtime.breaches(), Vec::<String>::new());
        self.db.close().await;
    }
}
