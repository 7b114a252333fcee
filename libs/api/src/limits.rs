//! How often: named policies per key and per address.
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-10, `RateLimit-Policy: "reads";q=600;w=60` and
//! `RateLimit: "reads";r=599;t=1`, and those of its drafts up to 07, which most clients know: `RateLimit-Limit: 600`,
//! `RateLimit-Remaining: 599`, `RateLimit-Reset: 1`.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use reef_door::ErrorCode;
use uuid::Uuid;

use crate::ApiError;

/// A named limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// `GET` and `HEAD`.
    Reads,
    /// Everything else.
    Writes,
    /// Requests with an `Idempotency-Key`, replays included.
    Named,
    /// `POST …/chat` and `…/chat/stream`.
    Chat,
    /// `POST …/terminal/exec`.
    Exec,
    /// `…/files`: a directory is many small files.
    Files,
    /// `POST /api/instances`.
    InstanceCreate,
    /// Sign-in, sign-up, invite codes: per address, and per account from one address.
    SignIn,
    /// Sign-in to one account from all addresses that it was never signed in from.
    SignInFromAnywhere,
    /// Mail that somebody asks for, per account or address that it goes to.
    Mail,
    /// Requests with a credential that is none, per address.
    BadCredentials,
    /// Keys that must be looked up for an address that has used up the former: its neighbours behind the same address
    /// may have good ones.
    UnknownKeys,
}

impl Policy {
    /// In the order of declaration.
    const ALL: &[Self] = &[
        Self::Reads,
        Self::Writes,
        Self::Named,
        Self::Chat,
        Self::Exec,
        Self::Files,
        Self::InstanceCreate,
        Self::SignIn,
        Self::SignInFromAnywhere,
        Self::Mail,
        Self::BadCredentials,
        Self::UnknownKeys,
    ];

    /// Returns the name in headers and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Named => "named-requests",
            Self::Chat => "chat",
            Self::Exec => "exec",
            Self::Files => "files",
            Self::InstanceCreate => "instance-create",
            Self::SignIn => "sign-in",
            Self::SignInFromAnywhere => "sign-in-from-anywhere",
            Self::Mail => "mail",
            Self::BadCredentials => "bad-credentials",
            Self::UnknownKeys => "unknown-keys",
        }
    }

    const fn default_limit(self) -> (u32, Duration) {
        const MINUTE: Duration = Duration::from_secs(60);
        match self {
            Self::Reads => (600, MINUTE),
            Self::Writes | Self::Named => (200, MINUTE),
            Self::Chat => (100, MINUTE),
            Self::Exec => (50, MINUTE),
            Self::Files => (1_200, MINUTE),
            Self::InstanceCreate => (10, Duration::from_secs(3600)),
            Self::SignIn => (10, MINUTE),
            Self::SignInFromAnywhere => (100, MINUTE),
            Self::Mail => (5, Duration::from_secs(3600)),
            Self::BadCredentials => (60, MINUTE),
            Self::UnknownKeys => (600, MINUTE),
        }
    }
}

/// Whom a limit counts for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A key or a session.
    Credential(Uuid),
    /// An address; of IPv6 the /64 that one customer has.
    Address(IpAddr),
    /// An account, or an e-mail address that may be one.
    Account(String),
    /// The same, from one address.
    AccountFrom(String, IpAddr),
}

impl Subject {
    pub(crate) fn address(ip: IpAddr) -> Self {
        Self::Address(customer(ip))
    }
}

/// Returns the address that stands for all that one customer has: of IPv6 the /64.
pub(crate) fn customer(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::V6(Ipv6Addr::from(segments))
        }
        v4 => v4,
    }
}

type Limiter =
    RateLimiter<Subject, DefaultKeyedStateStore<Subject>, DefaultClock, StateInformationMiddleware>;

/// Every policy with its counters.
pub struct RateLimits {
    policies: Vec<Limit>,
    /// Who was refused, and until when that is certain to last.
    refused: Mutex<HashMap<(Policy, Subject), Instant>>,
}

struct Limit {
    quota: u32,
    window: Duration,
    /// Both, as `RateLimit-Policy` says them.
    field: HeaderValue,
    limiter: Limiter,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::with(Policy::default_limit)
    }
}

impl std::fmt::Debug for RateLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.policies.iter().map(|limit| &limit.field)).finish()
    }
}

/// What is left of a budget.
#[derive(Debug, Clone)]
pub(crate) struct RateState {
    policy: Policy,
    quota: u32,
    field: HeaderValue,
    remaining: u32,
    reset: Duration,
}

impl RateLimits {
    /// Returns limits of so many requests per so long.
    pub fn with(limit: impl Fn(Policy) -> (u32, Duration)) -> Self {
        let make = |&policy: &Policy| {
            let (count, window) = limit(policy);
            let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::with_period(window / count.get())
                .unwrap_or(Quota::per_second(count))
                .allow_burst(count);
            let field = format!("\"{}\";q={count};w={}", policy.name(), window.as_secs());
            Limit {
                quota: count.get(),
                window,
                field: HeaderValue::try_from(field).expect("names of policies are ASCII"),
                limiter: RateLimiter::keyed(quota).with_middleware(),
            }
        };
        Self { policies: Policy::ALL.iter().map(make).collect(), refused: Mutex::default() }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// 429 with `Retry-After` and the headers of this policy where the budget is used up.
    pub(crate) fn check(&self, policy: Policy, subject: &Subject) -> Result<RateState, ApiError> {
        let Limit { quota, window, field, limiter } = &self.policies[policy as usize];
        match limiter.check_key(subject) {
            Ok(snapshot) => {
                let remaining = snapshot.remaining_burst_capacity();
                let reset = (*window / *quota).mul_f64(f64::from(quota - remaining.min(*quota)));
                Ok(RateState { policy, quota: *quota, field: field.clone(), remaining, reset })
            }
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                self.refused().insert((policy, subject.clone()), Instant::now() + wait);
                Err(self.refusal(policy, wait))
            }
        }
    }

    /// Tells whether [`Self::check`] has refused a subject and would again; counts nothing.
    pub(crate) fn is_refused(&self, policy: Policy, subject: &Subject) -> bool {
        self.refused().get(&(policy, subject.clone())).is_some_and(|until| Instant::now() < *until)
    }

    fn refusal(&self, policy: Policy, wait: Duration) -> ApiError {
        let Limit { quota, window, field, .. } = &self.policies[policy as usize];
        let seconds = wait.as_secs() + 1;
        let message = format!(
            "Too many requests: {quota} per {} s are allowed here. Try again in {seconds} s.",
            window.as_secs()
        );
        ApiError::new(ErrorCode::RateLimited, message)
            .with_details(serde_json::json!({ "policy": policy.name() }))
            .with_retry_after(seconds)
            .with_rate(RateState {
                policy,
                quota: *quota,
                field: field.clone(),
                remaining: 0,
                reset: Duration::from_secs(seconds),
            })
    }

    fn refused(&self) -> MutexGuard<'_, HashMap<(Policy, Subject), Instant>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets subjects whose budget is whole again.
    pub(crate) fn reap(&self) {
        let now = Instant::now();
        self.refused().retain(|_, until| now < *until);
        for Limit { limiter, .. } in &self.policies {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

impl RateState {
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert(HeaderName::from_static("ratelimit-policy"), self.field.clone());
        let state = format!("\"{}\";r={};t={}", self.policy.name(), self.remaining, self.reset.as_secs());
        if let Ok(value) = HeaderValue::try_from(state) {
            headers.insert(HeaderName::from_static("ratelimit"), value);
        }
        for (name, value) in [
            ("ratelimit-limit", u64::from(self.quota)),
            ("ratelimit-remaining", self.remaining.into()),
            ("ratelimit-reset", self.reset.as_secs()),
        ] {
            headers.insert(HeaderName::from_static(name), value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_beyond_the_quota_per_subject() {
        let limits = RateLimits::with(|_| (2, Duration::from_secs(60)));
        let (a, b) = (Subject::Account("a".into()), Subject::Account("b".into()));
        assert_eq!(limits.check(Policy::SignIn, &a).unwrap().remaining, 1);
        limits.check(Policy::SignIn, &a).unwrap();
        let refused = limits.check(Policy::SignIn, &a).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::RateLimited);
        limits.check(Policy::SignIn, &b).unwrap();
        limits.check(Policy::Reads, &a).unwrap();
        assert!(limits.is_refused(Policy::SignIn, &a));
        assert!(!limits.is_refused(Policy::SignIn, &b) && !limits.is_refused(Policy::Reads, &a));
        limits.reap();
    }

    #[test]
    fn one_customer_of_ipv6_is_one_subject() {
        let subject = |text: &str| Subject::address(text.parse().unwrap());
        assert_eq!(subject("2001:db8::1"), subject("2001:db8::2"));
        assert_ne!(subject("2001:db8::1"), subject("2001:db8:0:1::1"));
        assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
    }

    #[test]
    fn writes_structured_headers() {
        let limits = RateLimits::default();
        let mut headers = HeaderMap::new();
        limits.check(Policy::Reads, &Subject::Account("a".into())).unwrap().write(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"reads\";q=600;w=60");
        assert_eq!(headers["ratelimit"], "\"reads\";r=599;t=0");
        let earlier = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
        assert_eq!(earlier.map(|name| headers[name].to_str().unwrap()), ["600", "599", "0"]);
    }
}
