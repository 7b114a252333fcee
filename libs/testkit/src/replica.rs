//! One `reef serve`: listener, API, reconciler, in a tokio runtime of its own so that it can be killed like a process.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use reef_api::{ApiParts, ApiState, Caps, Crowd, RateLimits, WebApp};
use reef_auth::{SecretBox, ServerKey, Tickets};
use reef_config::Origin;
use reef_control::{Control, Courier, ModelAccess, Parts, Policy};
use reef_db::Db;
use reef_door::RunDir;
use reef_model::{InstanceId, RequestId};
use reef_worker::Workers;
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{Client, Contract, FakeRuntime, Mailbox, TestClock};

/// Longer than anything takes that has nothing left to do.
const GRACE: Duration = Duration::from_secs(5);

/// A control plane that runs.
pub struct Replica {
    control: Control,
    api: ApiState,
    client: Client,
    stop: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
    runtime: Option<Runtime>,
}

/// What a replica is started with.
pub(crate) struct Means {
    pub(crate) db: Db,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) runtime: Arc<FakeRuntime>,
    pub(crate) key: ServerKey,
    pub(crate) limits: RateLimits,
    pub(crate) caps: Caps,
    pub(crate) policy: Policy,
    pub(crate) contract: Arc<Contract>,
    pub(crate) mailbox: Mailbox,
}

impl Replica {
    pub(crate) async fn start(means: Means) -> Self {
        let own = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = own.spawn(TcpListener::bind(("127.0.0.1", 0))).await.unwrap().unwrap();
        let origin = Origin::of_listener(listener.local_addr().unwrap());
        let control = Control::new(Parts {
            db: means.db,
            clock: means.clock.clone(),
            runtime: means.runtime,
            model_access: Arc::new(NoModel),
            secrets: SecretBox::new(&means.key, &[]),
            replica: RequestId::generate().to_string(),
            policy: means.policy,
        });
        let workers = Workers::new(means.clock.clone());
        let api = ApiState::new(ApiParts {
            control: control.clone(),
            tickets: Tickets::new(&means.key),
            origin: origin.clone(),
            trusted_proxies: Vec::new(),
            limits: means.limits,
            caps: means.caps,
            workers,
            web: WebApp::default(),
        });
        let (stop, closing) = (CancellationToken::new(), CancellationToken::new());
        let router = reef_api::router(api.clone());
        let serving = {
            let (stop, closing, api) = (stop.clone(), closing.clone(), api.clone());
            async move {
                let crowd = Crowd::new(u32::MAX, Vec::new());
                let connections = reef_api::serve(listener, router, crowd, closing.clone());
                stop.cancelled().await;
                api.drain(Duration::ZERO, &closing).await;
                connections.wait().await;
            }
        };
        let background = {
            let (stop, api) = (stop.clone(), api.clone());
            async move { api.run(stop).await }
        };
        let tunnels = {
            let api = api.clone();
            async move {
                closing.cancelled().await;
                api.close().await;
            }
        };
        let mailing = {
            let accounts = control.accounts().clone();
            let courier = Courier::new(accounts, Arc::new(means.mailbox), origin.to_string());
            let stop = stop.clone();
            async move { courier.run(stop).await }
        };
        let reconciling = reef_control::reconcile::run(control.clone(), stop.clone());
        let tasks = vec![
            ("open requests", own.spawn(serving)),
            ("the API's background", own.spawn(background)),
            ("tunnels", own.spawn(tunnels)),
            ("the reconciler", own.spawn(reconciling)),
            ("the courier", own.spawn(mailing)),
        ];
        let client = Client::new(origin.as_str(), means.contract);
        Self { control, api, client, stop, tasks, runtime: Some(own) }
    }

    /// Returns the verbs.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Returns what its handlers have at hand.
    pub fn api(&self) -> &ApiState {
        &self.api
    }

    /// Returns a client without credentials.
    pub fn anonymous(&self) -> &Client {
        &self.client
    }

    /// Ends it as `kill -9` would: nothing is finished, nothing is given back.
    pub fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Ends it in good order.
    ///
    /// # Panics
    /// Where something does not end by itself: what was left open is a leak, or the test's own.
    pub async fn finish(mut self) {
        self.stop.cancel();
        for (name, task) in std::mem::take(&mut self.tasks) {
            match tokio::time::timeout(GRACE, task).await {
                Ok(outcome) => outcome.unwrap_or_else(|error| panic!("{name}: {error}")),
                Err(_) => panic!("left over at the end of the test: {name}"),
            }
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Fake doors ask no model.
struct NoModel;

#[async_trait]
impl ModelAccess for NoModel {
    async fn serve(&self, _: InstanceId, _: &RunDir) -> std::io::Result<()> {
        Ok(())
    }

    fn release(&self, _: InstanceId) {}
}
