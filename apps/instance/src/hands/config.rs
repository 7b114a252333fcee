//! The platform's part of `openclaw.json`, put there again before every start of the gateway.
//!
//! The rest of the file is the tenant's and is kept. JSON5 is read (OpenClaw takes it), JSON is written. A file that
//! cannot be read is set aside, not lost.

use std::{
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Map, Value, json};

/// Larger than any sane configuration.
const MAX_BYTES: u64 = 4 << 20;

/// What the platform decides.
pub(crate) struct Platform {
    /// Loopback port of the gateway.
    pub(crate) gateway_port: u16,
    /// Base URL of the model relay.
    pub(crate) model_url: String,
    /// Its bearer token.
    pub(crate) model_token: String,
    /// The agent's workspace.
    pub(crate) workspace: PathBuf,
}

/// Makes `file` say what the platform decides.
pub(crate) fn assert_file(file: &Path, platform: &Platform) -> anyhow::Result<()> {
    let mut config = match read(file)? {
        Found::Config(config) => config,
        Found::Nothing => first_boot(),
        Found::Unreadable => {
            set_aside(file)?;
            first_boot()
        }
    };
    assert_platform(&mut config, platform);
    write(file, &config).with_context(|| format!("cannot write {}", file.display()))
}

enum Found {
    Config(Map<String, Value>),
    Nothing,
    Unreadable,
}

fn read(file: &Path) -> anyhow::Result<Found> {
    // OpenClaw refuses a link here, and a fifo would hang us.
    let kind = match std::fs::symlink_metadata(file) {
        Ok(meta) if meta.is_file() && meta.len() <= MAX_BYTES => meta,
        Ok(_) => return Ok(Found::Unreadable),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    if kind.len() == 0 {
        return Ok(Found::Nothing);
    }
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(Found::Unreadable) };
    Ok(match json5::from_str::<Value>(&text) {
        Ok(Value::Object(config)) => Found::Config(config),
        _ => Found::Unreadable,
    })
}

/// Renames the file to the first free `openclaw.json.invalid-N`.
fn set_aside(file: &Path) -> anyhow::Result<()> {
    let name = file.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    let free = (1..=1000)
        .map(|n| file.with_file_name(format!("{name}.invalid-{n}")))
        .find(|path| std::fs::symlink_metadata(path).is_err())
        .context("too many openclaw.json.invalid-* files: remove some")?;
    std::fs::rename(file, &free).with_context(|| format!("cannot set aside {}", file.display()))
}

/// Where the tenant has none yet: spend no tokens unasked, answer without the persona's onboarding.
fn first_boot() -> Map<String, Value> {
    let mut config = Map::new();
    merge(
        &mut config,
        json!({"agents": {"defaults": {"heartbeat": {"every": "0m"}, "skipBootstrap": true}}}),
    );
    config
}

fn assert_platform(config: &mut Map<String, Value>, platform: &Platform) {
    merge(
        config,
        json!({
            "gateway": {
                "mode": "local",
                "port": platform.gateway_port,
                "bind": "loopback",
                "auth": { "mode": "token", "token": null, "password": null },
                "http": { "endpoints": {
                    "chatCompletions": { "enabled": true },
                    "responses": { "enabled": true }
                } },
                "controlUi": { "enabled": false }
            },
            "update": { "checkOnStart": false },
            "agents": { "defaults": { "workspace": platform.workspace } },
            "models": { "mode": "merge", "providers": { "reef": null } }
        }),
    );
    merge(
        config,
        json!({ "models": { "providers": { "reef": {
            "baseUrl": platform.model_url,
            "apiKey": platform.model_token,
            "api": "openai-completions",
            "models": [{
                "id": "default", "name": "Reef", "reasoning": false, "input": ["text"],
                "cost": { "input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0 },
                "contextWindow": 128_000, "maxTokens": 8192
            }]
        } } } }),
    );
    if !has_model(config) {
        merge(config, json!({"agents": {"defaults": {"model": {"primary": "reef/default"}}}}));
    }
}

fn has_model(config: &Map<String, Value>) -> bool {
    let model = config.get("agents").and_then(|agents| agents.get("defaults")?.get("model"));
    let named = |value: &Value| value.as_str().is_some_and(|name| !name.is_empty());
    model.is_some_and(|model| named(model) || model.get("primary").is_some_and(named))
}

/// Merges as RFC 7396 says: objects by key, `null` removes, anything else replaces.
fn merge(target: &mut Map<String, Value>, patch: Value) {
    let Value::Object(patch) = patch else { return };
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(_) => {
                let slot = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(inner) = slot {
                    merge(inner, value);
                }
            }
            _ => {
                target.insert(key, value);
            }
        }
    }
}

fn write(file: &Path, config: &Map<String, Value>) -> std::io::Result<()> {
    let beside = file.with_extension("json.reef-new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    serde_json::to_writer_pretty(&mut out, config)?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform() -> Platform {
        Platform {
            gateway_port: 4242,
            model_url: "http://127.0.0.1:7/v1".into(),
            model_token: "fresh".into(),
            workspace: "/workspace".into(),
        }
    }

    fn asserted(before: Option<&str>) -> (Value, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("openclaw.json");
        if let Some(text) = before {
            std::fs::write(&file, text).unwrap();
        }
        assert_file(&file, &platform()).unwrap();
        assert_file(&file, &platform()).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        (serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap(), names)
    }

    #[test]
    fn first_boot_has_everything() {
        let (config, names) = asserted(None);
        assert_eq!(names, ["openclaw.json"]);
        assert_eq!(config["gateway"]["mode"], "local");
        assert_eq!(config["gateway"]["bind"], "loopback");
        assert_eq!(config["gateway"]["port"], 4242);
        assert_eq!(config["agents"]["defaults"]["model"]["primary"], "reef/default");
        assert_eq!(config["agents"]["defaults"]["heartbeat"]["every"], "0m");
        assert_eq!(config["models"]["providers"]["reef"]["apiKey"], "fresh");
    }

    #[test]
    fn keeps_what_is_the_tenants_and_takes_back_what_is_ours() {
        let (config, names) = asserted(Some(
            r#"{
                // a comment
                gateway: { bind: "lan", mode: 'remote', auth: { mode: "none", token: "mine" }, other: 1 },
                agents: { defaults: { model: { primary: "own/model" }, heartbeat: { every: "5m" } } },
                models: { providers: { own: { baseUrl: "https://example.com" }, reef: { headers: { a: "b" } } } },
                channels: { telegram: { enabled: true } },
            }"#,
        ));
        assert_eq!(names, ["openclaw.json"]);
        assert_eq!(config["gateway"]["bind"], "loopback");
        assert_eq!(config["gateway"]["auth"], json!({"mode": "token"}));
        assert_eq!(config["gateway"]["other"], 1);
        assert_eq!(config["agents"]["defaults"]["model"]["primary"], "own/model");
        assert_eq!(config["agents"]["defaults"]["heartbeat"]["every"], "5m");
        assert_eq!(config["models"]["providers"]["own"]["baseUrl"], "https://example.com");
        assert_eq!(config["models"]["providers"]["reef"]["headers"], Value::Null);
        assert_eq!(config["channels"]["telegram"]["enabled"], true);
    }

    #[test]
    fn a_model_may_be_a_plain_word() {
        let (config, _) = asserted(Some(r#"{"agents": {"defaults": {"model": "own/model"}}}"#));
        assert_eq!(config["agents"]["defaults"]["model"], "own/model");
    }

    #[test]
    fn sets_aside_what_cannot_be_read() {
        for rubbish in ["{", "[]", "\"text\"", "{a:1}}"] {
            let (config, names) = asserted(Some(rubbish));
            assert_eq!(names, ["openclaw.json", "openclaw.json.invalid-1"], "{rubbish}");
            assert_eq!(config["gateway"]["mode"], "local");
        }
    }

    #[test]
    fn follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, secret) = (dir.path().join("openclaw.json"), dir.path().join("secret"));
        std::fs::write(&secret, "{\"a\": 1}").unwrap();
        std::os::unix::fs::symlink(&secret, &file).unwrap();
        assert_file(&file, &platform()).unwrap();
        assert!(std::fs::symlink_metadata(&file).unwrap().is_file());
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "{\"a\": 1}");
    }
}
