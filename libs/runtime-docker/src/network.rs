//! Networks: a few bridges that many instances share, without reaching one another.
//!
//! One bridge per instance would cost seconds and six rules each, one bridge for all ends at 1,024 ports: so instances
//! are put into shards. Each has an explicit subnet, since the engine's own pools end at 30 networks.

use std::{collections::HashMap, net::Ipv4Addr};

use bollard::{
    Docker,
    models::{Ipam, IpamConfig, NetworkCreateRequest},
    query_parameters::{ListContainersOptionsBuilder, ListNetworksOptionsBuilder},
};
use reef_runtime::RuntimeError;
use tokio::sync::Mutex;

use crate::{
    engine::{Ownership, failed, status},
    firewall::BRIDGE_PREFIX,
};

/// Instances per shard: with room below the 253 addresses of a /24, as placing does not lock out other processes.
const SHARD_CAPACITY: usize = 200;

/// Shards per engine: the /24s of a /16.
const SHARDS_MAX: u32 = 256;

/// The shards of one Reef.
#[derive(Debug)]
pub(crate) struct Shards {
    /// The first address of the /16.
    base: Ipv4Addr,
    /// Held while a place is looked for, so that callers at once do not make a network each.
    placing: Mutex<()>,
}

impl Shards {
    pub(crate) fn new(base: Ipv4Addr) -> Self {
        Self { base, placing: Mutex::new(()) }
    }

    /// Returns the id of a network with room, made where there is none.
    pub(crate) async fn place(&self, docker: &Docker, ownership: &Ownership) -> Result<String, RuntimeError> {
        let _placing = self.placing.lock().await;
        let filters = ownership.all();
        let networks = docker
            .list_networks(Some(ListNetworksOptionsBuilder::new().filters(&filters).build()))
            .await
            .map_err(failed("listing networks"))?;
        let containers = docker
            .list_containers(Some(ListContainersOptionsBuilder::new().all(true).filters(&filters).build()))
            .await
            .map_err(failed("listing containers"))?;
        let mut members: HashMap<String, usize> = HashMap::new();
        for container in containers {
            if let Some(network) = container.host_config.and_then(|config| config.network_mode) {
                *members.entry(network).or_default() += 1;
            }
        }
        let with_room = networks
            .into_iter()
            .filter_map(|network| network.id)
            .find(|id| members.get(id).copied().unwrap_or_default() < SHARD_CAPACITY);
        match with_room {
            Some(id) => Ok(id),
            None => self.create(docker, ownership).await,
        }
    }

    async fn create(&self, docker: &Docker, ownership: &Ownership) -> Result<String, RuntimeError> {
        for shard in 0..SHARDS_MAX {
            match docker.create_network(self.request(shard, ownership)).await {
                Ok(network) => {
                    check_filtering()?;
                    return Ok(network.id);
                }
                // The bridge or the subnet is another Reef's, or another network's.
                Err(error) if matches!(status(&error), Some(403 | 409)) => {}
                Err(error) => return Err(failed("making a network")(error)),
            }
        }
        Err(RuntimeError::Capacity(format!("no subnet is left in {}/16", self.base)))
    }

    fn request(&self, shard: u32, ownership: &Ownership) -> NetworkCreateRequest {
        let name = format!("{BRIDGE_PREFIX}{shard}");
        let address = |host: u32| Ipv4Addr::from_bits(self.base.to_bits() + (shard << 8) + host);
        let options = [
            ("com.docker.network.bridge.name", name.as_str()),
            ("com.docker.network.bridge.enable_icc", "false"),
        ];
        NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".into()),
            enable_ipv6: Some(false),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(format!("{}/24", address(0))),
                    gateway: Some(address(1).to_string()),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            options: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            labels: Some([(crate::engine::DEPLOYMENT.to_owned(), ownership.deployment.clone())].into()),
            ..Default::default()
        }
    }
}

/// Makes sure that packets between two ports of one bridge pass iptables at all.
pub(crate) fn check_filtering() -> Result<(), RuntimeError> {
    const SWITCH: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    match std::fs::read_to_string(SWITCH) {
        Ok(value) if value.trim() == "0" => Err(RuntimeError::Refused(
            "instances on one bridge could reach one another: type `sysctl -w net.bridge.bridge-nf-call-iptables=1`"
                .into(),
        )),
        _ => Ok(()),
    }
}
