//! Instants, and the clock that gives them.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use ::time::{
    OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::format_description,
};
use sqlx::{Database, Decode, Encode, Postgres, Sqlite, encode::IsNull, error::BoxDynError};

/// An instant in UTC with microsecond precision, so that both database engines give back what they were given.
///
/// JSON: RFC 3339 with milliseconds (`2026-04-04T03:10:00.000Z`). PostgreSQL: `TIMESTAMPTZ`. SQLite: `TEXT` of fixed
/// width (`2026-04-04T03:10:00.000000Z`), so that text order is time order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Returns the beginning of its hour (UTC).
    #[must_use]
    pub fn hour(self) -> Self {
        const MICROS: i64 = 3_600 * 1_000_000;
        let micros = self.unix_micros();
        Self::from_unix_micros(micros - micros.rem_euclid(MICROS))
    }

    /// Returns the instant `micros` microseconds after the Unix epoch; clamped to the years 1 to 9999.
    pub fn from_unix_micros(micros: i64) -> Self {
        let nanos = i128::from(micros) * 1_000;
        let clamped = nanos.clamp(
            ::time::macros::datetime!(0001-01-01 00:00 UTC).unix_timestamp_nanos(),
            ::time::macros::datetime!(9999-12-31 23:59 UTC).unix_timestamp_nanos(),
        );
        Self(OffsetDateTime::from_unix_timestamp_nanos(clamped).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Returns the microseconds since the Unix epoch.
    pub fn unix_micros(self) -> i64 {
        (self.0.unix_timestamp_nanos() / 1_000) as i64
    }

    /// Returns the milliseconds since the Unix epoch.
    pub fn unix_millis(self) -> i64 {
        self.unix_micros().div_euclid(1_000)
    }

    /// Returns the time from `earlier` to `self`; zero where `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.unix_micros() - earlier.unix_micros()).unwrap_or(0))
    }

    /// Returns the instant as the `time` crate has it.
    pub fn as_offset_date_time(self) -> OffsetDateTime {
        self.0
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(value: OffsetDateTime) -> Self {
        Self::from_unix_micros((value.unix_timestamp_nanos().div_euclid(1_000)) as i64)
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        let micros = i64::try_from(rhs.as_micros()).unwrap_or(i64::MAX);
        Self::from_unix_micros(self.unix_micros().saturating_add(micros))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        let micros = i64::try_from(rhs.as_micros()).unwrap_or(i64::MAX);
        Self::from_unix_micros(self.unix_micros().saturating_sub(micros))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
        f.write_str(&self.0.format(format).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stored())
    }
}

impl Timestamp {
    fn stored(self) -> String {
        let format =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
        self.0.format(format).unwrap_or_default()
    }
}

impl FromStr for Timestamp {
    type Err = ::time::error::Parse;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(OffsetDateTime::parse(text, &Rfc3339)?.to_offset(UtcOffset::UTC).into())
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {
    fn name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
}

impl sqlx::Type<Sqlite> for Timestamp {
    fn type_info() -> <Sqlite as Database>::TypeInfo {
        <str as sqlx::Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Timestamp {
    fn encode_by_ref(&self, buf: &mut <Sqlite as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.stored(), buf)
    }
}

impl<'r> Decode<'r, Sqlite> for Timestamp {
    fn decode(value: <Sqlite as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(<&str as Decode<Sqlite>>::decode(value)?.parse()?)
    }
}

impl sqlx::Type<Postgres> for Timestamp {
    fn type_info() -> <Postgres as Database>::TypeInfo {
        <OffsetDateTime as sqlx::Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, buf: &mut <Postgres as Database>::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0, buf)
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: <Postgres as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(<OffsetDateTime as Decode<Postgres>>::decode(value)?.into())
    }
}

/// Gives the present instant; every room takes it from here, so that tests can move it.
pub trait Clock: Send + Sync + 'static {
    /// Returns the present instant.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    fn now(&self) -> Timestamp {
        OffsetDateTime::now_utc().into()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Returns a clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.unix_micros()))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the clock, also backwards.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.unix_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_has_milliseconds() {
        let t: Timestamp = "2026-04-04T05:10:00.123456+02:00".parse().unwrap();
        assert_eq!(serde_json::to_string(&t).unwrap(), "\"2026-04-04T03:10:00.123Z\"");
        assert_eq!(t.unix_millis(), 1_775_272_200_123);
    }

    proptest! {
        #[test]
        fn stored_text_keeps_order(a in -62_000_000_000_000_000i64..253_000_000_000_000_000, b in -62_000_000_000_000_000i64..253_000_000_000_000_000) {
            let (x, y) = (Timestamp::from_unix_micros(a), Timestamp::from_unix_micros(b));
            prop_assert_eq!(x.cmp(&y), x.stored().cmp(&y.stored()));
            prop_assert_eq!(x.stored().parse::<Timestamp>().unwrap(), x);
        }

        #[test]
        fn arithmetic_saturates(a: i64, secs: u64) {
            let t = Timestamp::from_unix_micros(a);
            prop_assert!(t + Duration::from_secs(secs) >= t);
            prop_assert!(t - Duration::from_secs(secs) <= t);
        }
    }
}
