//! A checksum of the values of each column: pages of a Parquet file have none that readers check.

use std::hash::Hasher as _;

use parquet::data_type::ByteArray;
use twox_hash::XxHash64;

use crate::Values;

/// Of the values of one column, in the order of the rows, however many come at once.
#[derive(Default)]
pub(crate) struct Checksum {
    /// Which rows have one.
    levels: XxHash64,
    values: XxHash64,
}

impl Checksum {
    /// The key of a file's metadata under which the checksum of a column stands.
    pub(crate) fn key(column: &str) -> String {
        format!("cuda_trace.xxh64.{column}")
    }

    /// The next rows: `levels` says which of them have a value, where not all have.
    pub(crate) fn add(&mut self, values: &Values, levels: Option<&[i16]>) {
        if let Some(levels) = levels {
            for level in levels {
                self.levels.write_u8(u8::from(*level != 0));
            }
        }
        match values {
            Values::Integers(values) => {
                for value in values {
                    self.values.write_i64(*value);
                }
            }
            Values::Texts(values) => {
                for text in values.iter().map(ByteArray::data) {
                    self.values.write_u64(text.len() as u64);
                    self.values.write(text);
                }
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        format!("{:016x}{:016x}", self.levels.finish(), self.values.finish())
    }
}
