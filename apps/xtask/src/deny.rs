//! The dependency policy of `deny.toml`, held without network and without a tool to install.

use std::collections::BTreeSet;

use anyhow::Context as _;
use cargo_metadata::Package;
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// Reports every dependency that breaks the policy, all at once.
pub(crate) fn run() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deny.toml"))
        .context("reading deny.toml")?;
    let policy = Policy::parse(&text)?;
    let metadata = crate::metadata()?;
    let resolve = metadata.resolve.as_ref().context("no dependency graph")?;
    let built: BTreeSet<_> = resolve.nodes.iter().map(|node| &node.id).collect();
    let complaints: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| built.contains(&package.id))
        .flat_map(|package| policy.complaints(package))
        .collect();
    anyhow::ensure!(complaints.is_empty(), "dependencies against deny.toml:\n  {}", complaints.join("\n  "));
    Ok(())
}

/// The part of cargo-deny's format that is held here.
#[derive(Deserialize)]
struct PolicyFile {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

struct Policy {
    allowed: Vec<Licensee>,
    bans: Vec<Ban>,
    registries: Vec<String>,
}

impl Policy {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let file: PolicyFile = toml::from_str(text).context("deny.toml")?;
        let allowed =
            file.licenses.allow.iter().map(|name| {
                Licensee::parse(name).with_context(|| format!("deny.toml: the licence {name:?}"))
            });
        Ok(Self {
            allowed: allowed.collect::<Result<_, _>>()?,
            bans: file.bans.deny,
            registries: file.sources.allow_registry,
        })
    }

    fn complaints(&self, package: &Package) -> Vec<String> {
        let name = format!("{} {}", package.name, package.version);
        let mut complaints = Vec::new();
        if let Some(ban) = self.bans.iter().find(|ban| ban.name == **package.name) {
            complaints.push(format!("{name} is banned: {}", ban.reason));
        }
        // Packages of the workspace have no source.
        if let Some(source) = &package.source {
            let known = source
                .repr
                .strip_prefix("registry+")
                .is_some_and(|registry| self.registries.iter().any(|known| known == registry));
            if !known {
                complaints.push(format!("{name} comes from {source}"));
            }
        }
        match package.license.as_deref() {
            None => complaints.push(format!("{name} states no licence")),
            Some(license) if !self.allows(license) => {
                complaints.push(format!("{name} is under {license}"));
            }
            Some(_) => {}
        }
        complaints
    }

    /// Whether the expression can be satisfied with allowed licences alone. Lax, since old packages
    /// write `MIT/Apache-2.0`.
    fn allows(&self, license: &str) -> bool {
        Expression::parse_mode(license, ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|wanted| self.allowed.iter().any(|have| have.satisfies(wanted)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
        licenses.allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
        bans.deny = [{ crate = "openssl-sys", reason = "rustls" }]
        sources.allow-registry = ["https://registry.example/index"]
    "#;

    #[test]
    fn a_licence_is_allowed_when_a_choice_of_it_is() {
        let policy = Policy::parse(POLICY).unwrap();
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "Apache-2.0 WITH LLVM-exception OR MIT",
            "MIT AND (Apache-2.0 OR ISC)",
        ] {
            assert!(policy.allows(allowed), "{allowed}");
        }
        for refused in ["GPL-3.0-only", "MIT AND ISC", "", "no such licence"] {
            assert!(!policy.allows(refused), "{refused}");
        }
    }

    #[test]
    fn a_package_is_told_all_that_is_wrong_with_it() {
        let policy = Policy::parse(POLICY).unwrap();
        let package: Package = toml::from_str(
            r#"
            name = "openssl-sys"
            version = "0.9.0"
            id = "openssl-sys"
            source = "git+https://example.com/openssl"
            dependencies = []
            targets = []
            features = {}
            manifest_path = "/Cargo.toml"
            "#,
        )
        .unwrap();
        assert_eq!(
            policy.complaints(&package),
            [
                "openssl-sys 0.9.0 is banned: rustls",
                "openssl-sys 0.9.0 comes from git+https://example.com/openssl",
                "openssl-sys 0.9.0 states no licence",
            ]
        );
    }
}
