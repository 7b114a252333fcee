//! Who calls, and may they: the one decision.

use std::{net::IpAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;
use reef_model::{ApiKeyId, InstanceId, Role, Scope, Scopes, SessionId, UserId};

/// What a caller proved who they are with; losing it ends everything that was opened with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Credential {
    /// A browser session.
    Session(SessionId),
    /// An API key.
    Key(ApiKeyId),
}

/// An authenticated caller. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account, which is also the tenant whose rows are seen.
    pub tenant: UserId,
    /// What the account is.
    pub role: Role,
    /// How they proved it.
    pub credential: Credential,
    /// What they may do.
    pub scopes: Scopes,
    /// Where; `None`: on all instances of the tenant.
    pub instances: Option<Arc<[InstanceId]>>,
}

/// Why a caller may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The key lacks a scope: 403, and the caller may be told which.
    #[error("the key lacks the scope {0}")]
    Scope(Scope),
    /// The key is not for this instance: to be answered as if there were no such instance.
    #[error("the key is not for this instance")]
    Instance,
}

/// Decides whether `caller` may use `scope`, on `instance` where the request names one. Whether the instance is the
/// tenant's own is decided by the query that binds the tenant.
///
/// A key limited to some instances may not do what names none (create one, for instance) beyond reading; lists are
/// filtered by [`Caller::sees`].
///
/// # Errors
/// [`Denied`], each variant with its cause.
pub fn can(caller: &Caller, scope: Scope, instance: Option<InstanceId>) -> Result<(), Denied> {
    match instance {
        Some(id) if !caller.sees(id) => return Err(Denied::Instance),
        None if caller.instances.is_some() && scope != Scope::InstancesRead => return Err(Denied::Instance),
        _ => {}
    }
    if caller.scopes.contains(scope) { Ok(()) } else { Err(Denied::Scope(scope)) }
}

impl Caller {
    /// Tells whether the credential reaches this instance, if it is the tenant's.
    pub fn sees(&self, instance: InstanceId) -> bool {
        self.instances.as_ref().is_none_or(|instances| instances.contains(&instance))
    }

    /// Returns the caller's id for logs and the audit: `usr_…` or `key_…`.
    pub fn actor_id(&self) -> String {
        match self.credential {
            Credential::Session(_) => self.tenant.to_string(),
            Credential::Key(id) => id.to_string(),
        }
    }
}

/// The addresses that a key may be used from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpAllow(Vec<IpNet>);

/// The text is neither an address nor a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address or block: {0:?} (expected 192.0.2.7 or 192.0.2.0/24 or 2001:db8::/32)")]
pub struct ParseIpAllowError(pub String);

impl IpAllow {
    /// Reads addresses and CIDR blocks.
    ///
    /// # Errors
    /// [`ParseIpAllowError`] with the first that is neither.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, ParseIpAllowError> {
        let parse = |text: &S| {
            let text = text.as_ref().trim();
            IpNet::from_str(text)
                .or_else(|_| IpAddr::from_str(text).map(IpNet::from))
                .map(|block| block.trunc())
                .map_err(|_| ParseIpAllowError(text.chars().take(64).collect()))
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Allows no address at all.
    pub const fn nowhere() -> Self {
        Self(Vec::new())
    }

    /// Returns the blocks in normal form.
    pub fn to_texts(&self) -> Vec<String> {
        self.0.iter().map(IpNet::to_string).collect()
    }

    /// Tells whether an address is within; an IPv4 address counts also in its IPv6 form.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|block| block.contains(&address))
    }

    /// Tells whether all that `other` allows is allowed here.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|block| self.0.iter().any(|own| own.contains(block)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(scopes: Scopes, instances: Option<Vec<InstanceId>>) -> Caller {
        Caller {
            tenant: UserId::generate(),
            role: Role::User,
            credential: Credential::Key(ApiKeyId::generate()),
            scopes,
            instances: instances.map(Into::into),
        }
    }

    #[test]
    fn a_scope_is_needed_and_the_instance_comes_first() {
        let (mine, other) = (InstanceId::generate(), InstanceId::generate());
        let limited = caller(Scopes::from_iter([Scope::Chat, Scope::InstancesRead]), Some(vec![mine]));
        assert_eq!(can(&limited, Scope::Chat, Some(mine)), Ok(()));
        assert_eq!(can(&limited, Scope::Files, Some(mine)), Err(Denied::Scope(Scope::Files)));
        assert_eq!(can(&limited, Scope::Files, Some(other)), Err(Denied::Instance));
        assert_eq!(can(&limited, Scope::InstancesRead, None), Ok(()));
        assert_eq!(can(&limited, Scope::InstancesWrite, None), Err(Denied::Instance));
        let free = caller(Scopes::key_default(), None);
        assert_eq!(can(&free, Scope::InstancesWrite, None), Ok(()));
        assert_eq!(can(&free, Scope::Account, None), Err(Denied::Scope(Scope::Account)));
    }

    #[test]
    fn blocks_hold_addresses() {
        let allow = IpAllow::parse(&["10.1.2.3/8", "2001:db8::1", "192.0.2.7"]).unwrap();
        assert_eq!(allow.to_texts(), ["10.0.0.0/8", "2001:db8::1/128", "192.0.2.7/32"]);
        for inside in ["10.9.9.9", "2001:db8::1", "192.0.2.7", "::ffff:192.0.2.7"] {
            assert!(allow.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.1", "2001:db8::2", "192.0.2.8"] {
            assert!(!allow.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(IpAllow::parse(&["10.0.0.0/33"]).is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(texts: Vec<String>) {
            let _ = IpAllow::parse(&texts);
        }

        #[test]
        fn nothing_is_allowed_without_its_scope(bits in proptest::collection::vec(any::<bool>(), Scope::ALL.len()), limited: bool) {
            let scopes: Scopes = Scope::ALL.iter().zip(&bits).filter(|(_, on)| **on).map(|(scope, _)| *scope).collect();
            let id = InstanceId::generate();
            let caller = caller(scopes, limited.then(|| vec![id]));
            for scope in Scope::ALL {
                prop_assert_eq!(can(&caller, *scope, Some(id)).is_ok(), scopes.contains(*scope));
            }
        }
    }
}
