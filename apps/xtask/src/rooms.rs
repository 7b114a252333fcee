//! Which room may know which: the architecture as a table, compared with the dependency graph.
//!
//! A new package gets its line here. An edge that is missing from the table is either a mistake or
//! a decision worth a record in `docs/decisions/`.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::DependencyKind;

/// Each package and the packages of this workspace that it may use, lowest first.
const ROOMS: &[(&str, &[&str])] = &[
    ("reef-model", &[]),
    ("reef-proxy", &[]),
    ("reef-worker", &["reef-model"]),
    ("reef-openclaw", &[]),
    ("reef-config", &["reef-model"]),
    ("reef-door", &["reef-model"]),
    ("reef-auth", &["reef-model"]),
    ("reef-db", &["reef-model"]),
    ("reef-mail", &["reef-model"]),
    ("reef-runtime", &["reef-door", "reef-model"]),
    ("reef-runtime-docker", &["reef-door", "reef-model", "reef-runtime"]),
    ("reef-runtime-process", &["reef-door", "reef-model", "reef-runtime"]),
    ("reef-model-gateway", &["reef-door", "reef-model"]),
    (
        "reef-control",
        &["reef-auth", "reef-db", "reef-door", "reef-mail", "reef-model", "reef-runtime", "reef-worker"],
    ),
    (
        "reef-api",
        &[
            "reef-auth",
            "reef-config",
            "reef-control",
            "reef-db",
            "reef-door",
            "reef-model",
            "reef-proxy",
            "reef-worker",
        ],
    ),
    ("reef-instance", &["reef-door", "reef-model", "reef-openclaw"]),
];

/// The composition root and the chores: they may name any room.
const ROOTS: &[&str] = &["reef", "reef-xtask"];

/// What exists for tests alone: it may name any room and any crate.
const TESTS: &[&str] = &["reef-bench", "reef-e2e", "reef-testdb", "reef-testkit", "reef-tests"];

/// Crates that few rooms may name, and which.
const RESERVED: &[(&str, &[&str])] = &[
    ("axum", &["reef", "reef-api", "reef-instance", "reef-model-gateway"]),
    ("bollard", &["reef-runtime-docker"]),
    // `reef-model` derives its column types; the door keeps its chat log.
    ("sqlx", &["reef-db", "reef-instance", "reef-model"]),
];

#[test]
fn rooms_know_only_those_beneath_them() {
    let allowed: BTreeMap<_, BTreeSet<_>> =
        ROOMS.iter().map(|(room, knows)| (*room, knows.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (room, uses) in edges() {
        if ROOTS.contains(&room.as_str()) || TESTS.contains(&room.as_str()) {
            continue;
        }
        let Some(knows) = allowed.get(room.as_str()) else {
            wrong.push(format!("{room} is not in the table of rooms"));
            continue;
        };
        for used in uses.iter().filter(|used| used.starts_with("reef")) {
            if !knows.contains(used.as_str()) {
                wrong.push(format!("{room} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn reserved_crates_are_named_only_where_they_belong() {
    let mut wrong = Vec::new();
    for (room, uses) in edges() {
        for (reserved, rooms) in RESERVED {
            let is_test = TESTS.contains(&room.as_str());
            if uses.contains(*reserved) && !rooms.contains(&room.as_str()) && !is_test {
                wrong.push(format!("{room} names {reserved}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Every package of the workspace with the names that it depends on, tests' own left out.
fn edges() -> Vec<(String, BTreeSet<String>)> {
    let metadata = crate::metadata().unwrap();
    metadata
        .workspace_packages()
        .into_iter()
        .map(|package| {
            let uses = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .map(|dependency| dependency.name.to_string())
                .collect();
            (package.name.to_string(), uses)
        })
        .collect()
}
