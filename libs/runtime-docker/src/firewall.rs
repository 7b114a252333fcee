//! The rules that keep containers from the host, from its network and from one another.
//!
//! A bridge of its own protects nothing: every container reaches what the host listens on at 0.0.0.0, and forwarding
//! goes wherever the host has a route. All our bridges are named `reef…`, so one set of rules serves them all:
//!
//! | packets from `reef+` | go through | pass |
//! |---|---|---|
//! | to the host itself | `INPUT` → `REEF-IN` | answers, the resolvers |
//! | to anywhere else | `DOCKER-USER` → `REEF-FWD` | answers, the resolvers, public addresses but for port 25 |

use std::{io, net::Ipv4Addr, process::Stdio};

use reef_runtime::RuntimeError;
use tokio::{io::AsyncWriteExt, process::Command};

/// Bridges with this prefix are ours; an interface name has at most 15 characters.
pub(crate) const BRIDGE_PREFIX: &str = "reef";

/// Where no tenant may go: this host, private and shared networks (RFC 1918, RFC 6598), link-local with the cloud's
/// metadata service (RFC 3927), multicast and the rest that is not public (RFC 6890).
const NOT_PUBLIC: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32", // a cloud's platform services
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];

/// From which built-in chain to which of ours.
const JUMPS: [(&str, &str); 2] = [("INPUT", "REEF-IN"), ("DOCKER-USER", "REEF-FWD")];

/// The rules of this host.
#[derive(Debug)]
pub(crate) struct Firewall {
    /// Where the engine's embedded resolver asks; it does so from the container's network namespace.
    resolvers: Vec<Ipv4Addr>,
}

impl Firewall {
    pub(crate) fn new(resolvers: Vec<Ipv4Addr>) -> Self {
        Self { resolvers }
    }

    /// Writes both chains anew, at once, and the jumps to them where missing.
    pub(crate) async fn install(&self) -> Result<(), RuntimeError> {
        self.try_install().await.map_err(|error| {
            RuntimeError::failed(
                "the firewall rules that keep instances from this host cannot be set: run as root (in a container: \
                 host network and NET_ADMIN) with iptables installed (`apt-get install iptables`) and a Docker Engine \
                 that manages iptables",
                error,
            )
        })
    }

    /// Installs the rules where another program removed them; cheap enough for every start.
    pub(crate) async fn ensure(&self) -> Result<(), RuntimeError> {
        for (from, to) in JUMPS {
            if !has_jump(from, to).await {
                return self.install().await;
            }
        }
        Ok(())
    }

    async fn try_install(&self) -> io::Result<()> {
        let mut restore = tool("iptables-restore")
            .args(["--wait", "10", "--noflush"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = restore.stdin.take() {
            stdin.write_all(self.chains().as_bytes()).await?;
        }
        let output = restore.wait_with_output().await?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        for (from, to) in JUMPS {
            if !has_jump(from, to).await {
                iptables(&["-I", from, "1", "-i", &format!("{BRIDGE_PREFIX}+"), "-j", to]).await?;
            }
        }
        Ok(())
    }

    /// The input of iptables-restore: naming a chain empties it, all within one transaction.
    fn chains(&self) -> String {
        let mut rules = String::from("*filter\n:REEF-IN - [0:0]\n:REEF-FWD - [0:0]\n");
        let mut rule = |text: String| rules.extend(["-A ", &text, "\n"]);
        rule(format!("REEF-FWD -o {BRIDGE_PREFIX}+ -j DROP"));
        for chain in ["REEF-IN", "REEF-FWD"] {
            rule(format!("{chain} -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"));
            for resolver in &self.resolvers {
                for protocol in ["udp", "tcp"] {
                    rule(format!("{chain} -d {resolver} -p {protocol} --dport 53 -j RETURN"));
                }
            }
        }
        rule("REEF-IN -j DROP".into());
        // Mail servers take mail from each other there without credentials; the process runtime's proxy says so, too.
        rule("REEF-FWD -p tcp --dport 25 -j DROP".into());
        for network in NOT_PUBLIC {
            rule(format!("REEF-FWD -d {network} -j DROP"));
        }
        rules.push_str("COMMIT\n");
        rules
    }
}

async fn has_jump(from: &str, to: &str) -> bool {
    iptables(&["-C", from, "-i", &format!("{BRIDGE_PREFIX}+"), "-j", to]).await.is_ok()
}

async fn iptables(args: &[&str]) -> io::Result<()> {
    let output = tool("iptables").args(["-w", "10"]).args(args).output().await?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    // Where system administration tools are, also for a service whose path leaves them out.
    command.env("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin").kill_on_drop(true);
    command
}

/// Reads the name servers of resolv.conf(5). One on loopback is asked by the engine itself, from the host's namespace,
/// and needs no rule.
pub(crate) fn resolvers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    resolv_conf
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok())
        .filter(|address: &Ipv4Addr| !address.is_loopback())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_resolvers() {
        let text =
            "# nameserver 9.9.9.9\nsearch a\nnameserver 10.1.2.3\nnameserver  127.0.0.53\nnameserver ::1\n";
        assert_eq!(resolvers(text), [Ipv4Addr::new(10, 1, 2, 3)]);
    }

    #[test]
    fn answers_and_resolvers_come_before_every_refusal_but_that_of_neighbours() {
        let chains = Firewall::new(vec![Ipv4Addr::new(10, 1, 2, 3)]).chains();
        let forward: Vec<_> = chains.lines().filter_map(|line| line.strip_prefix("-A REEF-FWD ")).collect();
        assert_eq!(
            forward[..6],
            [
                "-o reef+ -j DROP",
                "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN",
                "-d 10.1.2.3 -p udp --dport 53 -j RETURN",
                "-d 10.1.2.3 -p tcp --dport 53 -j RETURN",
                "-p tcp --dport 25 -j DROP",
                "-d 0.0.0.0/8 -j DROP",
            ]
        );
        assert!(chains.ends_with("COMMIT\n"));
    }
}
