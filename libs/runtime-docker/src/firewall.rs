//! The rules that keep containers from the host, from its network and from one another.
//!
//! A bridge of its own protects nothing: every container reaches what the host listens on at 0.0.0.0, and forwarding
//! goes wherever the host has a route. All our bridges are named `reef…`, so one set of rules serves them all:
//!
//! | packets from `reef+` | go through | pass |
//! |---|---|---|
//! | to the host itself | `INPUT` → `REEF-IN` | answers, the resolvers |
//! | to anywhere else | `DOCKER-USER` → `REEF-FWD` | answers, the resolvers, public addresses but for port 25 |

use std::{io, iter, net::Ipv4Addr, process::Stdio};

use reef_runtime::RuntimeError;
use tokio::{io::AsyncWriteExt, process::Command, sync::Mutex};

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
    /// Held from the look at the rules until they are changed.
    changing: Mutex<()>,
}

impl Firewall {
    pub(crate) fn new(resolvers: Vec<Ipv4Addr>) -> Self {
        Self { resolvers, changing: Mutex::default() }
    }

    /// Writes both chains anew and puts the jumps to them before every other rule.
    pub(crate) async fn install(&self) -> Result<(), RuntimeError> {
        self.write_unless(|_| false).await
    }

    /// Installs the rules where another program removed them or put its own before; one look where none did.
    pub(crate) async fn ensure(&self) -> Result<(), RuntimeError> {
        self.write_unless(|present| self.is_whole(present)).await
    }

    async fn write_unless(&self, is_fine: impl Fn(&str) -> bool) -> Result<(), RuntimeError> {
        let _changing = self.changing.lock().await;
        let write = async {
            let present = run(tool("iptables").args(["--wait", "10", "--list-rules"]), "").await?;
            if is_fine(&present) {
                return Ok(());
            }
            let script = self.script(&present);
            run(tool("iptables-restore").args(["--wait", "10", "--noflush"]), &script).await.map(drop)
        };
        write.await.map_err(|error: io::Error| {
            RuntimeError::failed(
                "the firewall rules that keep instances from this host cannot be set: run as root (in a container: \
                 host network and NET_ADMIN) with iptables installed (`apt-get install iptables`) and a Docker Engine \
                 that manages iptables",
                error,
            )
        })
    }

    /// Tells whether the listed rules begin with our jumps and have our chains at their full length.
    ///
    /// A rule is listed in another form than it was written in: chains are counted, not compared.
    fn is_whole(&self, present: &str) -> bool {
        let chains = self.chains();
        JUMPS.iter().all(|(from, to)| {
            let rules_of = |listed: &str, chain: &str| {
                let start = format!("-A {chain} ");
                listed.lines().filter(|line| line.starts_with(&start)).count()
            };
            let start = format!("-A {from} ");
            let first = present.lines().find(|line| line.starts_with(&start));
            first == Some(&format!("-A {}", jump(from, to))) && rules_of(present, to) == rules_of(&chains, to)
        })
    }

    /// The input of iptables-restore, one transaction: the chains, and each jump as the first rule and nowhere else.
    fn script(&self, present: &str) -> String {
        let mut script = self.chains();
        for (from, to) in JUMPS {
            let rule = jump(from, to);
            let times = present.lines().filter(|line| line.strip_prefix("-A ") == Some(&*rule)).count();
            script.extend(iter::repeat_n(format!("-D {rule}\n"), times));
            script.extend(["-I ", &jump(&format!("{from} 1"), to), "\n"]);
        }
        script.push_str("COMMIT\n");
        script
    }

    /// Our chains: naming one empties it.
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
        rules
    }
}

/// The rule that leads from a built-in chain to ours, after `-A`, `-D` or `-I`.
fn jump(from: &str, to: &str) -> String {
    format!("{from} -i {BRIDGE_PREFIX}+ -j {to}")
}

/// Runs a tool with this input and returns what it wrote.
async fn run(command: &mut Command, input: &str) -> io::Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
    }

    #[test]
    fn sees_what_others_did_to_the_rules_and_undoes_it() {
        let firewall = Firewall::new(Vec::new());
        let chains = firewall.chains();
        let ours = chains.lines().filter(|line| line.starts_with("-A")).collect::<Vec<_>>().join("\n");
        let (input, user) = ("-A INPUT -i reef+ -j REEF-IN", "-A DOCKER-USER -i reef+ -j REEF-FWD");
        let foreign = "-A INPUT -i reef+ -j ACCEPT";
        assert!(firewall.is_whole(&format!("-P INPUT ACCEPT\n{input}\n{foreign}\n{user}\n{ours}")));
        for broken in [
            ours.clone(),
            format!("{input}\n{user}"),
            format!("{input}\n{ours}"),
            format!("{foreign}\n{input}\n{user}\n{ours}"),
            format!("{input}\n{user}\n{}", ours.replace("-A REEF-IN -j DROP", "")),
        ] {
            assert!(!firewall.is_whole(&broken), "{broken}");
        }
        let script = firewall.script(&format!("{foreign}\n{input}\n{input}"));
        let jumps = "-D INPUT -i reef+ -j REEF-IN\n-D INPUT -i reef+ -j REEF-IN\n-I INPUT 1 -i reef+ -j REEF-IN\n\
                     -I DOCKER-USER 1 -i reef+ -j REEF-FWD\nCOMMIT\n";
        assert!(script.starts_with(&chains) && script.ends_with(jumps), "{script}");
    }
}
