//! The `statements!` macro: one line of signature, one SQL text, the values it binds.

/// The text of a statement on each engine.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    /// What SQLite is given.
    pub sqlite: &'static str,
    /// What PostgreSQL is given.
    pub postgres: &'static str,
}

impl Sql {
    /// One text for both.
    pub const fn same(text: &'static str) -> Self {
        Self { sqlite: text, postgres: text }
    }

    /// A text for each; the exception, listed in the crate's documentation.
    pub const fn differing(sqlite: &'static str, postgres: &'static str) -> Self {
        Self { sqlite, postgres }
    }
}

/// A statement and the method that runs it.
#[derive(Debug)]
pub struct Statement {
    /// The method's name.
    pub name: &'static str,
    /// The text.
    pub sql: Sql,
}

/// Declares methods of [`crate::Db`] or [`crate::Tx`] that each run one statement, and the list `STATEMENTS` of them.
///
/// ```text
/// /// What it returns.
/// pub Db.lookup_thing(tenant: UserId, id: ThingId) -> Option<ThingRow>
///     = Sql::same("SELECT … WHERE user_id = $1 AND id = $2"), [tenant, id];
/// ```
///
/// The shape is `Option<Row>`, `One<Row>`, `Vec<Row>` or `Count` (of rows written). Bound expressions are evaluated
/// once per attempt, so they must be cheap and borrow or copy.
macro_rules! statements {
    ($(
        $(#[$meta:meta])*
        $vis:vis $on:ident.$name:ident($($arg:ident: $ty:ty),* $(,)?) -> $shape:ident $(<$row:ty>)?
            = $sql:expr, [$($bind:expr),* $(,)?];
    )*) => {
        pub(crate) const STATEMENTS: &[$crate::statement::Statement] = &[
            $($crate::statement::Statement { name: stringify!($name), sql: $sql }),*
        ];
        $(statements!(@method $on [$(#[$meta])* $vis] $name ($($arg: $ty),*) $shape [$($row)?] $sql; [$($bind),*]);)*
    };
    (@method Db [$($head:tt)*] $name:ident ($($arg:ident: $ty:ty),*) $shape:ident [$($row:ty)?] $sql:expr; [$($bind:expr),*]) => {
        impl $crate::Db {
            $($head)* async fn $name(&self, $($arg: $ty),*) -> Result<statements!(@type $shape [$($row)?]), $crate::DbError> {
                const SQL: $crate::Sql = $sql;
                match self.engine() {
                    $crate::database::Engine::Sqlite { readers, .. } => {
                        statements!(@run $shape [$($row)?] sqlx::Sqlite, SQL.sqlite, [$($bind),*], readers).await
                            .map(|found| statements!(@value $shape found))
                    }
                    $crate::database::Engine::Postgres(pool) => {
                        $crate::database::with_retry(pool, || {
                            statements!(@run $shape [$($row)?] sqlx::Postgres, SQL.postgres, [$($bind),*], pool)
                        })
                        .await
                        .map(|found| statements!(@value $shape found))
                    }
                }
                .map_err($crate::DbError::from)
            }
        }
    };
    (@method Tx [$($head:tt)*] $name:ident ($($arg:ident: $ty:ty),*) $shape:ident [$($row:ty)?] $sql:expr; [$($bind:expr),*]) => {
        impl $crate::Tx {
            $($head)* async fn $name(&mut self, $($arg: $ty),*) -> Result<statements!(@type $shape [$($row)?]), $crate::DbError> {
                const SQL: $crate::Sql = $sql;
                match self.connection() {
                    $crate::transaction::Connection::Sqlite(tx) => {
                        statements!(@run $shape [$($row)?] sqlx::Sqlite, SQL.sqlite, [$($bind),*], &mut **tx).await
                            .map(|found| statements!(@value $shape found))
                    }
                    $crate::transaction::Connection::Postgres(tx) => {
                        statements!(@run $shape [$($row)?] sqlx::Postgres, SQL.postgres, [$($bind),*], &mut **tx).await
                            .map(|found| statements!(@value $shape found))
                    }
                }
                .map_err($crate::DbError::from)
            }
        }
    };
    (@type Option [$row:ty]) => { Option<$row> };
    (@type One [$row:ty]) => { $row };
    (@type Vec [$row:ty]) => { Vec<$row> };
    (@type Count []) => { u64 };
    (@run Option [$row:ty] $engine:ty, $sql:expr, [$($bind:expr),*], $on:expr) => {
        sqlx::query_as::<$engine, $row>($sql)$(.bind($bind))*.fetch_optional($on)
    };
    (@run One [$row:ty] $engine:ty, $sql:expr, [$($bind:expr),*], $on:expr) => {
        sqlx::query_as::<$engine, $row>($sql)$(.bind($bind))*.fetch_one($on)
    };
    (@run Vec [$row:ty] $engine:ty, $sql:expr, [$($bind:expr),*], $on:expr) => {
        sqlx::query_as::<$engine, $row>($sql)$(.bind($bind))*.fetch_all($on)
    };
    (@run Count [] $engine:ty, $sql:expr, [$($bind:expr),*], $on:expr) => {
        sqlx::query::<$engine>($sql)$(.bind($bind))*.execute($on)
    };
    (@value Count $found:ident) => { $found.rows_affected() };
    (@value $shape:ident $found:ident) => { $found };
}
pub(crate) use statements;
