//! What a call line says of a call that has returned.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Each field is `None` where the function has none such, and where it could not be read.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// From entry to return, in microseconds: time of the calling thread, not of the GPU.
    pub dur_us: Option<f64>,
    /// `CUresult` or `cudaError_t`.
    pub ret: Option<u32>,
    /// Its name, unless it is 0.
    pub error: Option<String>,
    /// The address that the function returns, where that is what it returns.
    pub result: Option<Address>,
    /// Traced calls of the thread that were open around this one.
    pub depth: Option<u16>,
    /// The function of the innermost of them.
    pub parent: Option<String>,
    pub function: Option<Address>,
    /// Number of a [`super::Kernel`].
    pub kernel: Option<u32>,
    /// x, y, z, in blocks.
    pub grid: Option<[u32; 3]>,
    /// x, y, z, in threads.
    pub block: Option<[u32; 3]>,
    pub shared_bytes: Option<u64>,
    pub bytes: Option<u64>,
    pub count: Option<u64>,
    /// `HtoD` and the like.
    pub kind: Option<String>,
    pub ptr: Option<Address>,
    pub dst: Option<Address>,
    pub src: Option<Address>,
    pub allocation: Option<Address>,
    pub module: Option<Address>,
    pub graph: Option<Address>,
    pub graph_exec: Option<Address>,
    pub event: Option<Address>,
    pub stream: Option<Address>,
}

/// An address or a handle: `"0x7f5c2a000000"` in JSON, whose numbers have 53 bits in many readers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address such as \"0x7f5c2a000000\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Address, E> {
                let digits = text
                    .strip_prefix("0x")
                    .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(text), &self))?;
                u64::from_str_radix(digits, 16)
                    .map(Address)
                    .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_all_their_bits() {
        let text = "\"0xffffffffffffffff\"";
        let address: Address = serde_json::from_str(text).unwrap();
        assert_eq!(address, Address(u64::MAX));
        assert_eq!(serde_json::to_string(&address).unwrap(), text);
        for wrong in ["\"12\"", "\"0xg\"", "12"] {
            assert!(serde_json::from_str::<Address>(wrong).is_err(), "{wrong}");
        }
    }
}
