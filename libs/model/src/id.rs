//! Typed ids: a prefix, `_`, and a UUIDv7 (RFC 9562) in 26 characters of lower-case Crockford base32.
//!
//! The text form is that of the TypeID specification (0.3), so ids sort by time as text, survive being
//! lower-cased, and say what they name. In the database they are plain `UUID`s.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id: expected {expected}_ followed by 26 characters of 0-9 and a-z")]
pub struct ParseIdError {
    /// The prefix that was wanted.
    pub expected: &'static str,
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

fn encode(value: u128) -> [u8; 26] {
    let mut out = [0u8; 26];
    for (i, slot) in out.iter_mut().enumerate() {
        let shift = 5 * (25 - i);
        *slot = ALPHABET[((value >> shift) & 31) as usize];
    }
    out
}

fn decode(text: &[u8]) -> Option<u128> {
    // 26 characters hold 130 bits: the first may only be 0-7.
    if text.len() != 26 || text[0] > b'7' {
        return None;
    }
    text.iter().try_fold(0u128, |acc, byte| {
        let digit = ALPHABET.iter().position(|c| c == byte)?;
        Some((acc << 5) | digit as u128)
    })
}

/// Writes the text form of an id: `prefix_` and 26 characters.
fn write_id(f: &mut fmt::Formatter<'_>, prefix: &str, id: Uuid) -> fmt::Result {
    let text = encode(id.as_u128());
    f.write_str(prefix)?;
    f.write_str("_")?;
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

fn parse_id(prefix: &'static str, text: &str) -> Result<Uuid, ParseIdError> {
    text.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .and_then(|rest| decode(rest.as_bytes()))
        .map(Uuid::from_u128)
        .ok_or(ParseIdError { expected: prefix })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes a new id: a UUIDv7 of the present instant.
            #[expect(clippy::disallowed_methods, reason = "the one place where ids are made")]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Wraps a UUID read from elsewhere, a tenant's label on a container for instance.
            pub fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// Returns the UUID inside.
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, $prefix, self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_id($prefix, text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-7][0-9a-hjkmnp-tv-z]{25}$")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

ids! {
    /// A person with an account; also the tenant that owns rows.
    UserId = "usr";
    /// An API key (the record, not the secret).
    ApiKeyId = "key";
    /// A browser session as shown to its owner (not the cookie's secret).
    SessionId = "ses";
    /// An invite.
    InviteId = "inv";
    /// A right to hold an instance, from an invite or a subscription.
    EntitlementId = "ent";
    /// An OpenClaw instance.
    InstanceId = "inst";
    /// A long verb on an instance.
    OperationId = "op";
    /// An audit row.
    AuditId = "aud";
    /// A mail on its way.
    MailId = "mail";
    /// A request, where the caller sent no id of its own.
    RequestId = "req";
    /// A joined machine.
    HostId = "host";
    /// A command to a joined machine.
    CommandId = "cmd";
    /// A chat session in an instance.
    ChatSessionId = "chs";
    /// One turn: a user message and the answer to it.
    TurnId = "turn";
    /// A chat message.
    MessageId = "msg";
    /// A terminal in an instance.
    TerminalId = "term";
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_the_typeid_specification() {
        // "valid.yml" of the TypeID specification 0.3.
        let id = UserId::from_uuid("0110c853-1d09-52d8-d73e-1194e95b5f19".parse().unwrap());
        assert_eq!(id.to_string(), "usr_0123456789abcdefghjkmnpqrs");
        let max = UserId::from_uuid(Uuid::max());
        assert_eq!(max.to_string(), "usr_7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for bad in [
            "",
            "usr_",
            "inst_0123456789abcdefghjkmnpqrs",
            "usr_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "usr_0123456789ABCDEFGHJKMNPQRS",
            "usr_0123456789abcdefghjkmnpqr\u{e9}",
            "usr_0123456789abcdefghjkmnpqrs ",
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips_and_keeps_order(a: u128, b: u128) {
            let (x, y) = (InstanceId::from_uuid(Uuid::from_u128(a)), InstanceId::from_uuid(Uuid::from_u128(b)));
            prop_assert_eq!(x.to_string().parse::<InstanceId>(), Ok(x));
            prop_assert_eq!(x.cmp(&y), x.to_string().cmp(&y.to_string()));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<InstanceId>();
        }
    }
}
