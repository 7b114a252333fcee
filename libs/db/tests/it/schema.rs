//! The statements fit the schemas, and the schemas fit each other.

use std::collections::{BTreeMap, BTreeSet};

use reef_db::{Db, statements};
use reef_testdb::TestDatabase;
use sqlx::{Connection, Executor, PgConnection, Row, SqlSafeStr, SqliteConnection};

use crate::open;

#[tokio::test]
async fn every_statement_prepares_on_sqlite() {
    let database = TestDatabase::sqlite().await;
    open(&database).await;
    let mut connection = SqliteConnection::connect(database.url()).await.unwrap();
    for statement in statements() {
        if let Err(error) = connection.prepare(statement.sql.sqlite.into_sql_str()).await {
            panic!("{}: {error}\n{}", statement.name, statement.sql.sqlite);
        }
    }
}

#[tokio::test]
async fn every_statement_prepares_on_postgres() {
    let database = TestDatabase::postgres().await;
    open(&database).await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    for statement in statements() {
        if let Err(error) = connection.prepare(statement.sql.postgres.into_sql_str()).await {
            panic!("{}: {error}\n{}", statement.name, statement.sql.postgres);
        }
    }
}

#[test]
fn statements_keep_to_the_rules() {
    for statement in statements() {
        for text in [statement.sql.sqlite, statement.sql.postgres] {
            let lower = text.to_lowercase();
            for banned in ["select *", "now()", "current_timestamp", "ilike", "interval"] {
                assert!(!lower.contains(banned), "{} uses {banned}", statement.name);
            }
        }
    }
}

#[test]
fn the_engines_have_the_same_migrations() {
    let names = |engine: &str| -> BTreeSet<_> {
        std::fs::read_dir(format!("{}/../../migrations/{engine}", env!("CARGO_MANIFEST_DIR")))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
}

#[tokio::test]
async fn migrating_twice_or_from_an_older_server_is_harmless() {
    for database in [TestDatabase::sqlite().await, TestDatabase::postgres().await] {
        let db = open(&database).await;
        db.migrate().await.unwrap();
        let other = Db::connect(database.url(), 2).await.unwrap();
        other.migrate().await.unwrap();
    }
}

/// What both engines must agree on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Type (in PostgreSQL's words) and whether it may be null, by column.
    columns: BTreeMap<String, (String, bool)>,
    /// Name, uniqueness, partiality, columns.
    indexes: BTreeSet<(String, bool, bool, String)>,
    /// Column, table and column it refers to, and what a delete does.
    references: BTreeSet<(String, String, String, String)>,
    /// Texts of CHECK constraints, without blanks and casts.
    checks: usize,
}

#[tokio::test]
async fn the_schemas_agree() {
    let (sqlite, postgres) = (TestDatabase::sqlite().await, TestDatabase::postgres().await);
    open(&sqlite).await;
    open(&postgres).await;
    let (sqlite, postgres) = (sqlite_tables(&sqlite).await, postgres_tables(&postgres).await);
    assert_eq!(sqlite.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
    for (name, table) in &sqlite {
        assert_eq!(table, &postgres[name], "table {name}: sqlite left, postgres right");
    }
    assert!(sqlite.len() >= 12 && sqlite["instances"].columns.len() == 29, "the comparison sees the schema");
}

async fn sqlite_tables(database: &TestDatabase) -> BTreeMap<String, Table> {
    let mut connection = SqliteConnection::connect(database.url()).await.unwrap();
    let mut tables = BTreeMap::<String, Table>::new();
    let rows = sqlx::query(
        "SELECT t.name, t.sql, t.strict, c.name, c.type, c.\"notnull\" FROM pragma_table_list l \
         JOIN sqlite_schema s ON s.name = l.name AND s.type = 'table' \
         JOIN (SELECT l.name, l.strict, s.sql FROM pragma_table_list l JOIN sqlite_schema s ON s.name = l.name) t ON t.name = l.name \
         JOIN pragma_table_info(l.name) c WHERE l.name NOT LIKE '\\_sqlx%' ESCAPE '\\' AND l.name NOT LIKE 'sqlite%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for row in rows {
        let name: String = row.get(0);
        assert_eq!(row.get::<i64, _>(2), 1, "table {name} is STRICT");
        let table = tables.entry(name).or_default();
        table.checks = row.get::<String, _>(1).matches("CHECK (").count();
        table.columns.insert(row.get(3), (row.get(4), row.get::<i64, _>(5) == 0));
    }
    for (name, table) in &mut tables {
        let indexes = sqlx::query(
            "SELECT l.name, l.\"unique\", l.partial, group_concat(i.name) FROM pragma_index_list($1) l \
             JOIN pragma_index_info(l.name) i WHERE l.origin = 'c' GROUP BY l.name ORDER BY i.seqno",
        )
        .bind(name.as_str())
        .fetch_all(&mut connection)
        .await
        .unwrap();
        for row in indexes {
            let is = |n: usize| row.get::<i64, _>(n) == 1;
            table.indexes.insert((row.get(0), is(1), is(2), row.get(3)));
        }
        let references =
            sqlx::query("SELECT \"from\", \"table\", \"to\", on_delete FROM pragma_foreign_key_list($1)")
                .bind(name.as_str())
                .fetch_all(&mut connection)
                .await
                .unwrap();
        for row in references {
            table.references.insert((row.get(0), row.get(1), row.get(2), row.get(3)));
        }
    }
    tables
}

async fn postgres_tables(database: &TestDatabase) -> BTreeMap<String, Table> {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let mut tables = BTreeMap::<String, Table>::new();
    let columns = sqlx::query(
        "SELECT table_name::text, column_name::text, data_type::text, is_nullable = 'YES' FROM information_schema.columns \
         WHERE table_schema = 'public' AND table_name NOT LIKE '\\_sqlx%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    // The names that style.md pairs: native on each engine.
    let sqlite_name = |postgres: &str, column: &str| match postgres {
        "uuid" | "bytea" => "BLOB",
        "text" | "timestamp with time zone" | "jsonb" => "TEXT",
        "bigint" | "boolean" => "INTEGER",
        other => panic!("column {column} has the type {other}, which has no pair"),
    };
    for row in columns {
        let column: String = row.get(1);
        let kind = sqlite_name(&row.get::<String, _>(2), &column).to_owned();
        tables.entry(row.get(0)).or_default().columns.insert(column, (kind, row.get(3)));
    }
    let indexes = sqlx::query(
        "SELECT t.relname::text, i.relname::text, x.indisunique, x.indpred IS NOT NULL, \
         (SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM unnest(x.indkey::int2[]) WITH ORDINALITY k(attnum, n) \
          JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) \
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid \
         WHERE t.relnamespace = 'public'::regnamespace AND NOT x.indisprimary AND t.relname NOT LIKE '\\_sqlx%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for row in indexes {
        let index = (row.get(1), row.get(2), row.get(3), row.get(4));
        tables.get_mut(&row.get::<String, _>(0)).unwrap().indexes.insert(index);
    }
    let constraints = sqlx::query(
        "SELECT c.relname::text, k.contype::text, COALESCE(a.attname::text, ''), COALESCE(f.relname::text, ''), \
         COALESCE(fa.attname::text, ''), k.confdeltype::text FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid \
         LEFT JOIN pg_class f ON f.oid = k.confrelid \
         LEFT JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1] \
         LEFT JOIN pg_attribute fa ON fa.attrelid = k.confrelid AND fa.attnum = k.confkey[1] \
         WHERE k.contype IN ('c', 'f') AND c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE '\\_sqlx%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    for row in constraints {
        let table = tables.get_mut(&row.get::<String, _>(0)).unwrap();
        if row.get::<String, _>(1) == "c" {
            table.checks += 1;
        } else {
            let on_delete = if row.get::<String, _>(5) == "c" { "CASCADE" } else { "NO ACTION" };
            table.references.insert((row.get(2), row.get(3), row.get(4), on_delete.to_owned()));
        }
    }
    tables
}
