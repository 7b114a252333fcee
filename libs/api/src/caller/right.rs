//! Rights as types, so that a handler's signature says what it takes to reach it.

use http::Method;
use reef_model::Scope;
use serde_json::Value;

use crate::limits::Policy;

/// What it takes to reach a handler.
pub(crate) trait Right: Send + Sync + 'static {
    /// The scope that a key must have.
    const SCOPE: Option<Scope>;
    /// Whether only operators may.
    const NEEDS_OPERATOR: bool = false;
    /// Whether only a signed-in browser may, and no key.
    const NEEDS_SESSION: bool = false;

    /// Returns the limit that a request counts against.
    fn policy(method: &Method) -> Policy {
        if method.is_safe() { Policy::Reads } else { Policy::Writes }
    }
}

/// The same as a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) scope: Option<Scope>,
    pub(crate) is_operators: bool,
    pub(crate) is_persons: bool,
}

impl Need {
    pub(crate) const fn of<R: Right>() -> Self {
        Self { scope: R::SCOPE, is_operators: R::NEEDS_OPERATOR, is_persons: R::NEEDS_SESSION }
    }

    /// Reads it from the marks of an operation in the document; that they are its handler's is tested by walking it.
    pub(crate) fn from_marks<'m>(mark: impl Fn(&str) -> Option<&'m Value>) -> Self {
        let is_true = |name: &str| mark(name).is_some_and(|value| value == true);
        Self {
            scope: mark("x-reef-scope").and_then(Value::as_str).and_then(|word| word.parse().ok()),
            is_operators: is_true("x-reef-operator"),
            is_persons: is_true("x-reef-session"),
        }
    }
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $scope:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) enum $name {}
        impl Right for $name {
            const SCOPE: Option<Scope> = $scope;
        }
    )*};
}

rights! {
    /// Any good credential.
    Anyone = None;
    /// `instances:read`.
    InstancesRead = Some(Scope::InstancesRead);
    /// `instances:write`.
    InstancesWrite = Some(Scope::InstancesWrite);
    /// `terminal`.
    Terminal = Some(Scope::Terminal);
    /// `desktop`.
    Desktop = Some(Scope::Desktop);
    /// `account`.
    Account = Some(Scope::Account);
}

/// `chat`.
pub(crate) enum Chat {}

impl Right for Chat {
    const SCOPE: Option<Scope> = Some(Scope::Chat);

    fn policy(method: &Method) -> Policy {
        if method.is_safe() { Policy::Reads } else { Policy::Chat }
    }
}

/// `terminal`, to run a command.
pub(crate) enum Exec {}

impl Right for Exec {
    const SCOPE: Option<Scope> = Some(Scope::Terminal);

    fn policy(_: &Method) -> Policy {
        Policy::Exec
    }
}

/// `files`.
pub(crate) enum Files {}

impl Right for Files {
    const SCOPE: Option<Scope> = Some(Scope::Files);

    fn policy(_: &Method) -> Policy {
        Policy::Files
    }
}

/// The account's holder in a session: what no key may do.
pub(crate) enum Person {}

impl Right for Person {
    const SCOPE: Option<Scope> = Some(Scope::Account);
    const NEEDS_SESSION: bool = true;
}

/// An operator, with `account` where it is a key.
pub(crate) enum Operator {}

impl Right for Operator {
    const SCOPE: Option<Scope> = Some(Scope::Account);
    const NEEDS_OPERATOR: bool = true;
}
