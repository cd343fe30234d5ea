//! Parquet files of one table each: columns of whole numbers and of text, compressed with zstd.
//!
//! [`schema`] is the one definition of the tables, which `docs/parquet.md` describes for people.
//! [`lines`] makes a segment one table, and reads it back.

#![forbid(unsafe_code)]

pub mod call_text;
mod checksum;
pub mod lines;
pub mod read;
pub mod schema;
pub mod texts;
pub mod write;

use parquet::data_type::ByteArray;

/// Values of some rows, column by column, as Parquet keeps them.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    Integers(Vec<i64>),
    Texts(Vec<ByteArray>),
}

impl Values {
    fn of(kind: schema::Kind) -> Self {
        match kind {
            schema::Kind::Text => Self::Texts(Vec::new()),
            schema::Kind::Integer | schema::Kind::Time => Self::Integers(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Integers(values) => values.clear(),
            Self::Texts(values) => values.clear(),
        }
    }
}
