//! Defaults, file and environment as one table; the defaults say which keys exist and of what type they are.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::{
    DEFAULTS,
    variables::{OTHERS, VARIABLES, Variable, WITHOUT_EFFECT},
};

/// Where a setting was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: the built-in default.
    Default,
    /// In the TOML file.
    File,
    /// In the environment.
    Environment,
}

/// One setting in force, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// The environment variable that says it.
    pub variable: &'static str,
    /// Its value, a secret as `***`, empty where not set.
    pub value: String,
    /// Where it was said.
    pub source: Source,
}

/// The merged table.
pub(crate) struct Layers {
    values: BTreeMap<&'static str, (Value, Source)>,
    pub(crate) warnings: Vec<String>,
}

impl Layers {
    /// Merges the layers; a value that cannot be taken becomes a problem and leaves the one beneath in force.
    pub(crate) fn merge(
        file: Option<&str>,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> (Self, Vec<String>) {
        let defaults: Table = toml::from_str(DEFAULTS).expect("config.default.toml is TOML, as a test shows");
        let mut values: BTreeMap<_, _> = VARIABLES
            .iter()
            .map(|variable| {
                let value = lookup(&defaults, variable.key).expect("every variable's key has a default");
                (variable.key, (value.clone(), Source::Default))
            })
            .collect();
        let mut problems = Vec::new();
        if let Some(text) = file {
            overlay_file(text, &mut values, &mut problems);
        }
        let warnings = overlay_env(env, &mut values, &mut problems);
        let mut layers = Self { values, warnings };
        let unused = WITHOUT_EFFECT.iter().filter(|key| {
            // A file may be a copy of the defaults.
            layers.is_said(key) && lookup(&defaults, key) != Some(layers.value(key))
        });
        let unused: Vec<_> = unused
            .map(|key| format!("{} is set, but this version does not use it yet", layers.spoken(key)))
            .collect();
        layers.warnings.extend(unused);
        (layers, problems)
    }

    fn value(&self, key: &str) -> &Value {
        &self.values.get(key).expect("callers name keys of config.default.toml").0
    }

    /// Returns a string, `None` where it is empty.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.value(key).as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Returns a whole number.
    pub(crate) fn number(&self, key: &str) -> i64 {
        self.value(key).as_integer().unwrap_or_default()
    }

    /// Returns a switch.
    pub(crate) fn is_on(&self, key: &str) -> bool {
        self.value(key).as_bool().unwrap_or_default()
    }

    /// Returns a list of strings.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let items = self.value(key).as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Tells whether the operator said a setting.
    pub(crate) fn is_said(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|(_, source)| *source != Source::Default)
    }

    /// Returns what to call a setting in a message: as the operator said it.
    pub(crate) fn spoken(&self, key: &str) -> String {
        match self.values.get(key) {
            Some((_, Source::File)) => key.to_owned(),
            _ => variable(key).name.to_owned(),
        }
    }

    /// Returns all settings, redacted.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let show = |variable: &'static Variable| {
            let (value, source) = &self.values[variable.key];
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                other => other.to_string(),
            };
            let value =
                if variable.is_secret && !text.is_empty() { "***".into() } else { without_password(text) };
            Setting { key: variable.key, variable: variable.name, value, source: *source }
        };
        VARIABLES.iter().map(show).collect()
    }
}

/// Returns `scheme://user:***@host…` for a URL with a password in it.
fn without_password(text: String) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text };
    let authority = rest.split('/').next().unwrap_or_default();
    let Some((user_info, _)) = authority.rsplit_once('@') else { return text };
    let Some((user, _)) = user_info.split_once(':') else { return text };
    format!("{scheme}://{user}:***{}", &rest[user_info.len()..])
}

fn variable(key: &str) -> &'static Variable {
    VARIABLES.iter().find(|variable| variable.key == key).expect("callers name keys of config.default.toml")
}

fn lookup<'t>(table: &'t Table, key: &str) -> Option<&'t Value> {
    let (section, name) = key.split_once('.')?;
    table.get(section)?.as_table()?.get(name)
}

type Values = BTreeMap<&'static str, (Value, Source)>;

fn overlay_file(text: &str, values: &mut Values, problems: &mut Vec<String>) {
    let table: Table = match toml::from_str(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            problems.push(format!("the config file is not TOML: line {line}: {}", error.message()));
            return;
        }
    };
    let sections: BTreeSet<_> =
        VARIABLES.iter().filter_map(|v| v.key.split_once('.')).map(|(s, _)| s).collect();
    for (section, content) in table {
        let Some(entries) = content.as_table().filter(|_| sections.contains(section.as_str())) else {
            problems.push(format!(
                "{section} is no section of the config file: remove it (`reef doctor` lists what there is)"
            ));
            continue;
        };
        for (name, value) in entries {
            let key = format!("{section}.{name}");
            let Some(variable) = VARIABLES.iter().find(|variable| variable.key == key) else {
                problems.push(format!(
                    "{key} is no setting: remove it from the config file (`reef doctor` lists what there is)"
                ));
                continue;
            };
            let slot = values.get_mut(variable.key).expect("filled from the same table");
            let wanted = kind(&slot.0);
            let is_list_of_text = value.as_array().is_none_or(|items| items.iter().all(Value::is_str));
            if kind(value) == wanted && is_list_of_text {
                *slot = (value.clone(), Source::File);
            } else {
                problems.push(format!("{key} must be {wanted}: write it like {} = {}", name, slot.0));
            }
        }
    }
}

fn overlay_env(
    env: impl IntoIterator<Item = (String, String)>,
    values: &mut Values,
    problems: &mut Vec<String>,
) -> Vec<String> {
    let env: BTreeMap<_, _> = env.into_iter().filter(|(_, value)| !value.trim().is_empty()).collect();
    for variable in VARIABLES {
        let names = std::iter::once(variable.name).chain(variable.alias);
        let Some((name, text)) = names.filter_map(|name| Some((name, env.get(name)?))).next() else {
            continue;
        };
        let slot = values.get_mut(variable.key).expect("filled from the same table");
        match parse(text.trim(), &slot.0) {
            Some(value) => *slot = (value, Source::Environment),
            None => problems.push(format!("{name} must be {}: type {name}={}", kind(&slot.0), slot.0)),
        }
    }
    let known = |name: &str| {
        OTHERS.contains(&name) || VARIABLES.iter().any(|v| v.name == name || v.alias == Some(name))
    };
    env.keys()
        .filter(|name| name.starts_with("REEF_") && !known(name))
        .map(|name| format!("{name} is set, but nothing reads it: `reef doctor` lists the names"))
        .collect()
}

fn parse(text: &str, like: &Value) -> Option<Value> {
    match like {
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(Value::Boolean(true)),
            "0" | "false" | "no" | "off" => Some(Value::Boolean(false)),
            _ => None,
        },
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
        }
        _ => Some(Value::String(text.to_owned())),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list of text",
        _ => "something else",
    }
}
