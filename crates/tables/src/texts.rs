//! One allocation for each text, as far as texts come again.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use parquet::data_type::ByteArray;

/// Texts that are kept, and their bytes; beyond them all are forgotten.
const MAX_TEXTS: usize = 16_384;
const MAX_TEXT_BYTES: usize = 16 << 20;

/// A longer one is not kept: no name of a function or a kernel is.
const MAX_BYTES_OF_ONE: usize = 64 << 10;

#[derive(Default)]
pub struct Texts<S = RandomState> {
    known: HashMap<Box<str>, ByteArray, S>,
    bytes: usize,
}

impl<S: BuildHasher + Default> Texts<S> {
    pub fn of(&mut self, text: &str) -> ByteArray {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if text.len() > MAX_BYTES_OF_ONE {
            return ByteArray::from(text);
        }
        if self.known.len() >= MAX_TEXTS || self.bytes >= MAX_TEXT_BYTES {
            *self = Self::default();
        }
        let new = ByteArray::from(text);
        // As the key, too.
        self.bytes += 2 * text.len();
        self.known.insert(text.into(), new.clone());
        new
    }
}
