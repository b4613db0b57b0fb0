//! The parameters of statements.

use tokio_postgres::types::{ToSql, Type};

/// Values of a statement, in the order of their numbers. What comes from a filter or a peer is always one of them, never text of
/// the statement.
#[derive(Clone, Debug, Default)]
pub(super) struct Parameters(Vec<Value>);

#[derive(Clone, Debug)]
enum Value {
    Number(i64),
    Numbers(Vec<i64>),
    Text(String),
    Texts(Vec<String>),
    Bytes(Vec<u8>),
}

impl Parameters {
    /// Adds a number. Returns its place in the text, `$1`.
    pub(super) fn number(&mut self, number: i64) -> String {
        self.add(Value::Number(number))
    }

    /// Adds an id.
    pub(super) fn id(&mut self, id: u64) -> String {
        self.number(bigint(id))
    }

    /// Adds ids as an array.
    pub(super) fn ids(&mut self, ids: impl IntoIterator<Item = u64>) -> String {
        self.add(Value::Numbers(ids.into_iter().map(bigint).collect()))
    }

    /// Adds numbers as an array.
    pub(super) fn numbers(&mut self, numbers: Vec<i64>) -> String {
        self.add(Value::Numbers(numbers))
    }

    /// Adds a text.
    pub(super) fn text(&mut self, text: &str) -> String {
        self.add(Value::Text(text.to_owned()))
    }

    /// Adds texts as an array. A text with a NUL is left out: no text of the database has one.
    pub(super) fn texts(&mut self, texts: impl IntoIterator<Item = impl Into<String>>) -> String {
        let texts = texts.into_iter().map(Into::into);
        self.add(Value::Texts(
            texts.filter(|text| !text.contains('\0')).collect(),
        ))
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> String {
        self.add(Value::Bytes(bytes.to_vec()))
    }

    fn add(&mut self, value: Value) -> String {
        self.0.push(value);
        format!("${}", self.0.len())
    }

    /// Returns the values with their types.
    pub(super) fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.0.iter().map(Value::typed).collect()
    }
}

impl Value {
    fn typed(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Number(number) => (number, Type::INT8),
            Self::Numbers(numbers) => (numbers, Type::INT8_ARRAY),
            Self::Text(text) => (text, Type::TEXT),
            Self::Texts(texts) => (texts, Type::TEXT_ARRAY),
            Self::Bytes(bytes) => (bytes, Type::BYTEA),
        }
    }
}

/// Returns a number as the database has it; the largest if it is larger.
pub(super) fn bigint(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
