//! The routes of files.
//!
//! Hands finds and opens ([`crate::wire::files`]); here bytes are moved ([`content`], [`upload`]), streams carried
//! ([`stream`]) and HTTP spoken: ranges and preconditions ([`conditions`]), errors ([`failure`]).

mod body;
mod conditions;
mod content;
mod failure;
mod handed;
mod stream;
mod tree;
mod upload;

use std::{os::fd::OwnedFd, path::Path, sync::Arc};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};

use self::{failure::nonsense, handed::Volumes};
use super::{
    held::{Held, MAX_BODY},
    problem::{self, Params, Problem},
    work::Work,
};
use crate::wire::{
    files::{Call, Reply},
    work,
};

/// Returns `/files…` without authentication. `roots` are the workspace and the home as the door sees them.
pub(super) fn router(work: Work, held: Held, roots: [&Path; 2]) -> Router {
    let files = Files { work, held, volumes: Arc::new(Volumes::new(roots)) };
    Router::new()
        .route("/files", get(stream::list).delete(tree::delete))
        .route("/files/stat", get(tree::stat))
        .route("/files/read", get(content::read))
        .route("/files/write", post(upload::write))
        .route("/files/upload", post(upload::upload))
        .route("/files/mkdir", post(tree::mkdir))
        .route("/files/move", post(tree::rename))
        .route("/files/copy", post(tree::copy))
        .route("/files/chmod", post(tree::chmod))
        .route("/files/content", get(content::get).put(upload::put))
        .route("/files/archive", get(stream::archive).post(stream::extract))
        .route("/files/search", get(stream::search))
        .route("/files/watch", get(stream::watch))
        // Raw bodies have none.
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(problem::render))
        .with_state(files)
}

/// What the routes need.
#[derive(Clone)]
struct Files {
    work: Work,
    held: Held,
    volumes: Arc<Volumes>,
}

impl Files {
    /// Has hands do something.
    async fn ask(&self, call: Call) -> Result<(Reply, Option<OwnedFd>), Problem> {
        self.ask_with(call, Vec::new()).await
    }

    async fn ask_with(&self, call: Call, fds: Vec<OwnedFd>) -> Result<(Reply, Option<OwnedFd>), Problem> {
        match self.work.ask(work::Call::Files(call), fds).await? {
            (work::Reply::Files(reply), fds) => Ok((reply, fds.into_iter().next())),
            _ => Err(nonsense()),
        }
    }
}

/// Returns the path that a request is about.
fn path_of(params: &Params) -> Result<String, Problem> {
    params
        .get("path", "a path")?
        .ok_or_else(|| Problem::field("path", "is missing: a path like /workspace/notes.md"))
}

#[cfg(test)]
mod tests;
