//! What an API key may do.

use crate::text::text_enum;

text_enum! {
    /// One right of an API key.
    Scope {
        /// See instances, their status and their operations.
        InstancesRead = "instances:read",
        /// Create, change, start, stop and delete instances.
        InstancesWrite = "instances:write",
        /// Chat; whoever may chat can make the agent run commands.
        Chat = "chat",
        /// Read and write files.
        Files = "files",
        /// Run commands and open terminals.
        Terminal = "terminal",
        /// See and control the desktop.
        Desktop = "desktop",
        /// Reach the OpenClaw gateway itself.
        Gateway = "gateway",
        /// See and command joined machines.
        Hosts = "hosts",
        /// Manage the account: keys, sessions, invites, billing.
        Account = "account",
    }
}

/// A set of [`Scope`]s; JSON is an array of words in declaration order, the database holds them joined by spaces.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    /// No right at all.
    pub const NONE: Self = Self(0);

    /// Every right: what a signed-in session has.
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// What a key has unless told otherwise: everything but [`Scope::Account`].
    pub fn key_default() -> Self {
        Scope::ALL.iter().copied().filter(|scope| *scope != Scope::Account).collect()
    }

    /// Tells whether `scope` is in the set.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16) != 0
    }

    /// Tells whether every scope of `other` is in the set.
    pub const fn contains_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Tells whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes in declaration order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    /// Returns the database form: words joined by single spaces.
    pub fn to_words(self) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }

    /// Reads the database form.
    ///
    /// # Errors
    /// [`crate::text::UnknownWord`] where a word is no scope.
    pub fn from_words(words: &str) -> Result<Self, crate::text::UnknownWord> {
        words.split_whitespace().map(str::parse).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(iter: I) -> Self {
        Self(iter.into_iter().fold(0, |set, scope| set | (1 << scope as u16)))
    }
}

impl std::fmt::Debug for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_words())
    }
}

impl serde::Serialize for Scopes {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.iter())
    }
}

impl<'de> serde::Deserialize<'de> for Scopes {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Vec::<Scope>::deserialize(d)?.into_iter().collect())
    }
}

impl<DB: sqlx::Database> sqlx::Type<DB> for Scopes
where
    str: sqlx::Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <str as sqlx::Type<DB>>::type_info()
    }
    fn compatible(ty: &DB::TypeInfo) -> bool {
        <str as sqlx::Type<DB>>::compatible(ty)
    }
}

impl<'q, DB: sqlx::Database> sqlx::Encode<'q, DB> for Scopes
where
    String: sqlx::Encode<'q, DB>,
{
    fn encode_by_ref(
        &self,
        buf: &mut <DB as sqlx::Database>::ArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        sqlx::Encode::<DB>::encode(self.to_words(), buf)
    }
}

impl<'r, DB: sqlx::Database> sqlx::Decode<'r, DB> for Scopes
where
    &'r str: sqlx::Decode<'r, DB>,
{
    fn decode(value: <DB as sqlx::Database>::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self::from_words(<&'r str as sqlx::Decode<'r, DB>>::decode(value)?)?)
    }
}

impl utoipa::PartialSchema for Scopes {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::ArrayBuilder::new()
            .items(utoipa::openapi::Ref::from_schema_name(<Scope as utoipa::ToSchema>::name()))
            .into()
    }
}

impl utoipa::ToSchema for Scopes {
    fn name() -> std::borrow::Cow<'static, str> {
        "Scopes".into()
    }

    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::schema::Schema>)>) {
        schemas.push((
            <Scope as utoipa::ToSchema>::name().into_owned(),
            <Scope as utoipa::PartialSchema>::schema(),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_json_round_trip() {
        for scopes in [Scopes::NONE, Scopes::all(), Scopes::key_default()] {
            assert_eq!(Scopes::from_words(&scopes.to_words()), Ok(scopes));
            let json = serde_json::to_string(&scopes).unwrap();
            assert_eq!(serde_json::from_str::<Scopes>(&json).unwrap(), scopes);
        }
        assert!(!Scopes::key_default().contains(Scope::Account));
        assert!(Scopes::from_words("chat root").is_err());
    }
}
