//! The runtime on a Docker Engine: one hardened container per instance.
//!
//! | of an instance | where |
//! |---|---|
//! | container `reef-UUID` | `container.rs`: door as user 0 with three capabilities, hands as 10001 with none |
//! | volumes `reef-UUID-home`, `-workspace`, `-state` | initialised from the image's directories |
//! | `DATA/instances/inst_…/run` | bound to `/run/reef`; `in/` read-only |
//! | a place on a bridge `reefN` | `network.rs`, behind the rules of `firewall.rs` |
//!
//! Everything carries labels with the instance and with the deployment, so that two Reefs on one engine never touch each
//! other's. Bind mounts name paths as the engine sees them: where Reef itself runs in a container, the data directory
//! must be mounted at the same path as on the host.

use std::{io, net::Ipv4Addr, path::PathBuf, pin::pin, time::Duration};

use async_trait::async_trait;
use bollard::{
    Docker,
    errors::Error,
    models::{ContainerStateStatusEnum, VolumeCreateRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, EventsOptionsBuilder, ListContainersOptionsBuilder,
        ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptions,
        StopContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use reef_door::{RunDir, socket::connect_nofollow};
use reef_model::{Clock, InstanceId, Isolation, Power, RuntimeKind, SystemClock};
use reef_runtime::{
    Finding, Hint, InstanceSpec, Observed, Runtime, RuntimeError,
    files::{ensure_dir, ensure_run_dir, remove_tree, write_boot, write_private},
};
use tokio::{net::UnixStream, time::Instant};

use crate::{
    container::{Found, VOLUMES},
    engine::{Filters, Ownership, failed, found, instance, status},
    firewall::Firewall,
    network::Shards,
};

mod container;
mod engine;
mod firewall;
mod network;

/// How long a container that others are changing may keep us waiting.
const SETTLE: Duration = Duration::from_secs(60);

/// How many containers are inspected at once.
const INSPECTIONS: usize = 8;

/// What the Docker runtime must be told.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// The engine: `unix:///var/run/docker.sock`, or what `DOCKER_HOST` says.
    pub host: String,
    /// The platform's data directory; run directories live below it.
    pub data_dir: PathBuf,
    /// Names this Reef among those that share the engine; never changes.
    pub deployment: String,
    /// The image of instances that ask for none.
    pub image: String,
    /// The first address of the /16 that bridges take their subnets from.
    pub subnets: Ipv4Addr,
    /// The content of the host's `/etc/resolv.conf`: the name servers that instances may ask.
    pub resolv_conf: String,
    /// After how long without viewers, input and output a shell is ended.
    pub terminal_idle: Duration,
}

/// Instances as containers of a Docker Engine.
#[derive(Debug)]
pub struct DockerRuntime {
    docker: Docker,
    instances: PathBuf,
    ownership: Ownership,
    image: String,
    shards: Shards,
    firewall: Firewall,
    terminal_idle: Duration,
    cpus: u32,
}

impl DockerRuntime {
    /// Connects to the engine.
    ///
    /// # Errors
    /// [`RuntimeError::Failed`] where none answers.
    pub async fn connect(config: DockerConfig) -> Result<Self, RuntimeError> {
        /// Longer than the longest grace of a stop, which the engine answers only when it is over.
        const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
        let connect = async {
            let docker = Docker::connect_with_host(&config.host)?.with_timeout(ANSWER_TIMEOUT);
            let docker = docker.negotiate_version().await?;
            let info = docker.info().await?;
            Ok::<_, Error>((docker, info))
        };
        let (docker, info) = connect.await.map_err(|error| {
            RuntimeError::failed(
                format!(
                    "no Docker Engine answers on {}: type `sudo systemctl start docker`, or set DOCKER_HOST",
                    config.host
                ),
                error,
            )
        })?;
        let data_dir = std::path::absolute(&config.data_dir)
            .map_err(|error| RuntimeError::failed("reading the data directory's path", error))?;
        Ok(Self {
            docker,
            instances: reef_runtime::instances_dir(&data_dir),
            ownership: Ownership { deployment: config.deployment },
            image: config.image,
            shards: Shards::new(config.subnets),
            firewall: Firewall::new(firewall::resolvers(&config.resolv_conf)),
            terminal_idle: config.terminal_idle,
            cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1),
        })
    }

    fn dir(&self, id: InstanceId) -> PathBuf {
        self.instances.join(id.to_string())
    }

    /// Holds the handle of the container that we stopped last: the engine does not tell an end from a stop.
    fn stop_mark(&self, id: InstanceId) -> PathBuf {
        self.dir(id).join("stopped")
    }

    fn is_marked(&self, found: &Found) -> bool {
        std::fs::read(self.stop_mark(found.observed.id)).is_ok_and(|mark| mark == found.handle.as_bytes())
    }

    fn ensure_run_dir(&self, id: InstanceId) -> io::Result<RunDir> {
        std::fs::create_dir_all(&self.instances)?;
        ensure_dir(&self.dir(id), 0o700)?;
        ensure_run_dir(&self.dir(id).join("run"))
    }

    /// Inspects all containers that pass the filters.
    async fn containers(&self, filters: &Filters) -> Result<Vec<Found>, Error> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(filters).build();
        let listed = self.docker.list_containers(Some(options)).await?;
        let ids = listed.into_iter().filter_map(|container| container.id);
        let all = stream::iter(ids)
            .map(async |id| found(self.docker.inspect_container(&id, None).await))
            .buffer_unordered(INSPECTIONS)
            .try_collect::<Vec<_>>()
            .await?;
        let ours = all.into_iter().flatten().filter_map(Found::read);
        Ok(ours
            .map(|mut found| {
                if self.is_marked(&found) {
                    found.observed.exit = None;
                }
                found
            })
            .collect())
    }

    async fn container(&self, id: InstanceId) -> Result<Option<Found>, Error> {
        Ok(self.containers(&self.ownership.of(id)).await?.pop())
    }

    async fn volumes(&self, filters: &Filters) -> Result<Vec<(String, InstanceId)>, Error> {
        let options = ListVolumesOptionsBuilder::new().filters(filters).build();
        let volumes = self.docker.list_volumes(Some(options)).await?.volumes.unwrap_or_default();
        Ok(volumes.into_iter().filter_map(|it| Some((it.name, instance(&it.labels)?))).collect())
    }

    /// Makes volumes and container; another caller may make them at the same time.
    async fn create(&self, spec: &InstanceSpec, run_dir: &RunDir) -> Result<(), RuntimeError> {
        let name = container::name(spec.id);
        for (suffix, _) in VOLUMES {
            let request = VolumeCreateRequest {
                name: Some(format!("{name}-{suffix}")),
                labels: Some(self.ownership.labels(spec.id)),
                ..Default::default()
            };
            self.docker.create_volume(request).await.map_err(failed("making a volume"))?;
        }
        let image = spec.image.as_deref().unwrap_or(&self.image);
        let network = self.shards.place(&self.docker, &self.ownership).await?;
        let body =
            container::body(spec, image, &self.ownership, network, run_dir, self.cpus, self.terminal_idle);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        match self.docker.create_container(Some(options), body).await {
            Ok(_) => Ok(()),
            Err(error) => match status(&error) {
                Some(409) => Ok(()),
                Some(404) => Err(RuntimeError::Refused(format!(
                    "the engine has no image {image}: type `make images`, or set REEF_INSTANCE_IMAGE"
                ))),
                Some(400) => Err(RuntimeError::Refused(format!(
                    "the engine refuses the container: {error}; where Reef runs in a container, mount the data \
                     directory at the same path as on the host"
                ))),
                _ => Err(failed("making the container")(error)),
            },
        }
    }

    /// Takes one container to its end. `Ok(false)`: it did not run.
    async fn halt(&self, found: &Found, grace: Duration) -> Result<bool, RuntimeError> {
        if found.observed.power == Power::Stopped {
            return Ok(false);
        }
        write_private(&self.stop_mark(found.observed.id), found.handle.as_bytes())
            .map_err(|error| RuntimeError::failed("noting the stop", error))?;
        let seconds = i32::try_from(grace.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let outcome = self.docker.stop_container(&found.handle, Some(options)).await;
        Ok(engine::found(outcome).map_err(failed("stopping the container"))?.is_some())
    }

    /// Removes one container, or sees that another caller does.
    async fn discard(&self, found: &Found) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.docker.remove_container(&found.handle, Some(options)).await {
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                Err(failed("removing the container")(error))
            }
            _ => Ok(()),
        }
    }

    /// Takes one step towards a running container of the wanted generation; `Some`: it runs.
    async fn step(
        &self,
        spec: &InstanceSpec,
        run_dir: &RunDir,
        grace: Duration,
    ) -> Result<Option<Observed>, RuntimeError> {
        let Some(found) = self.container(spec.id).await.map_err(failed("looking for the container"))? else {
            self.create(spec, run_dir).await?;
            return Ok(None);
        };
        let is_current = found.observed.generation == spec.generation;
        match (found.observed.power, found.status) {
            // Marked: a stop was cut off, and the engine may be about to finish it.
            (Power::Running, _) if is_current && !self.is_marked(&found) => Ok(Some(found.observed)),
            (Power::Paused, _) if is_current => {
                let outcome = self.docker.unpause_container(&found.handle).await;
                engine::found(outcome).map_err(failed("unpausing the container"))?;
                Ok(None)
            }
            (Power::Running | Power::Paused, _) => {
                self.halt(&found, grace).await?;
                Ok(None)
            }
            (Power::Stopped, ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EXITED)
                if is_current =>
            {
                self.launch(spec, run_dir, &found).await?;
                Ok(None)
            }
            (Power::Stopped, _) => {
                self.discard(&found).await?;
                Ok(None)
            }
        }
    }

    async fn launch(
        &self,
        spec: &InstanceSpec,
        run_dir: &RunDir,
        container: &Found,
    ) -> Result<(), RuntimeError> {
        let prepare = || {
            write_boot(run_dir, spec)?;
            match std::fs::remove_file(self.stop_mark(spec.id)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        prepare().map_err(|error| RuntimeError::failed("preparing the run directory", error))?;
        match self.docker.start_container(&container.handle, None).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // What cannot start, its network being gone for instance, may start when made anew.
                self.discard(container).await?;
                Err(failed("starting the container")(error))
            }
        }
    }

    /// Tells of instances of which a directory is left or was prepared.
    fn directories(&self) -> io::Result<Vec<InstanceId>> {
        let entries = match std::fs::read_dir(&self.instances) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<InstanceId>().ok()));
        }
        Ok(ids)
    }
}

/// What is seen of an instance of which only data is left.
fn only_data(id: InstanceId) -> Observed {
    Observed { id, handle: String::new(), generation: 0, power: Power::Stopped, started_at: None, exit: None }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Docker
    }

    fn isolation(&self) -> Isolation {
        Isolation::Container
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |is_fatal, message: String| findings.push(Finding { is_fatal, message });
        match self.docker.version().await {
            Ok(version) => find(
                false,
                format!(
                    "Docker Engine {}, API {}",
                    version.version.unwrap_or_default(),
                    version.api_version.unwrap_or_default()
                ),
            ),
            Err(error) => find(true, format!("the Docker Engine does not answer: {error}")),
        }
        match found(self.docker.inspect_image(&self.image).await) {
            Ok(Some(_)) => {}
            Ok(None) => find(true, format!("the engine has no image {}: type `make images`", self.image)),
            Err(error) => find(true, format!("the image {} cannot be inspected: {error}", self.image)),
        }
        if let Err(error) = self.firewall.install().await {
            let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
            find(true, format!("{error}{}", cause.unwrap_or_default()));
        }
        if let Err(error) = network::check_filtering() {
            find(true, error.to_string());
        }
        findings
    }

    async fn keep(&self) -> Result<(), RuntimeError> {
        self.firewall.ensure().await
    }

    async fn ensure_started(&self, spec: &InstanceSpec, grace: Duration) -> Result<Observed, RuntimeError> {
        spec.check()?;
        let run_dir = self.run_dir(spec.id).await?;
        self.firewall.ensure().await?;
        let deadline = Instant::now() + SETTLE + grace;
        loop {
            if let Some(observed) = self.step(spec, &run_dir, grace).await? {
                return Ok(observed);
            }
            if Instant::now() > deadline {
                return Err(RuntimeError::failed(
                    "starting the container",
                    "it does not come to rest: is its name taken by a container that is not ours?",
                ));
            }
            // Another caller may be at work on the same container.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn stop(&self, id: InstanceId, grace: Duration) -> Result<bool, RuntimeError> {
        match self.container(id).await.map_err(failed("looking for the container"))? {
            Some(found) => self.halt(&found, grace).await,
            None => Ok(false),
        }
    }

    async fn remove(&self, id: InstanceId) -> Result<bool, RuntimeError> {
        let deadline = Instant::now() + SETTLE;
        let mut is_found = false;
        while let Some(found) = self.container(id).await.map_err(failed("looking for the container"))? {
            is_found = true;
            self.discard(&found).await?;
            if Instant::now() > deadline {
                return Err(RuntimeError::failed("removing the container", "it does not go"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for (volume, _) in self.volumes(&self.ownership.of(id)).await.map_err(failed("listing volumes"))? {
            is_found = true;
            let outcome = self.docker.remove_volume(&volume, None::<RemoveVolumeOptions>).await;
            found(outcome).map_err(failed("removing a volume"))?;
        }
        let dir = self.dir(id);
        let had_dir = tokio::task::spawn_blocking(move || remove_tree(&dir))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| RuntimeError::failed("removing the run directory", error))?;
        Ok(is_found || had_dir)
    }

    async fn inspect(&self, id: InstanceId) -> Result<Option<Observed>, RuntimeError> {
        if let Some(found) = self.container(id).await.map_err(failed("looking for the container"))? {
            return Ok(Some(found.observed));
        }
        let volumes = self.volumes(&self.ownership.of(id)).await.map_err(failed("listing volumes"))?;
        Ok((!volumes.is_empty() || self.dir(id).exists()).then(|| only_data(id)))
    }

    async fn list(&self) -> Result<Vec<Observed>, RuntimeError> {
        let filters = self.ownership.all();
        // Data before containers: what is made meanwhile is seen with its container or not at all.
        let mut ids: Vec<_> = self
            .volumes(&filters)
            .await
            .map_err(failed("listing volumes"))?
            .into_iter()
            .map(|(_, id)| id)
            .collect();
        ids.extend(
            self.directories().map_err(|error| RuntimeError::failed("reading run directories", error))?,
        );
        let containers = self.containers(&filters).await.map_err(failed("listing containers"))?;
        let mut all: Vec<_> = containers.into_iter().map(|found| found.observed).collect();
        ids.retain(|id| all.iter().all(|observed| observed.id != *id));
        ids.sort_unstable();
        ids.dedup();
        all.extend(ids.into_iter().map(only_data));
        Ok(all)
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        const PAUSE: Duration = Duration::from_secs(1);
        let docker = self.docker.clone();
        let mut filters = self.ownership.all();
        filters.insert("type".into(), vec!["container".into()]);
        let events = ["start", "die", "oom", "pause", "unpause", "destroy"];
        filters.insert("event".into(), events.map(str::to_owned).into());
        // From the moment of the call, not from that of the first poll.
        let mut since = seconds(SystemClock.now().unix_micros().saturating_mul(1_000));
        async_stream::stream! {
            loop {
                let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
                let mut events = pin!(docker.events(Some(options)));
                while let Some(Ok(event)) = events.next().await {
                    if let Some(nanos) = event.time_nano {
                        since = seconds(nanos);
                    }
                    let labels = event.actor.and_then(|actor| actor.attributes);
                    if let Some(id) = labels.as_ref().and_then(instance) {
                        yield Hint::Instance(id);
                    }
                }
                tokio::time::sleep(PAUSE).await;
                yield Hint::All;
            }
        }
        .boxed()
    }

    async fn run_dir(&self, id: InstanceId) -> Result<RunDir, RuntimeError> {
        self.ensure_run_dir(id).map_err(|error| RuntimeError::failed("making the run directory", error))
    }

    async fn dial(&self, id: InstanceId) -> io::Result<UnixStream> {
        connect_nofollow(&RunDir::new(self.dir(id).join("run")).door_socket()).await
    }
}

/// Writes an instant as the engine's `since` wants it.
fn seconds(nanos: i64) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}
