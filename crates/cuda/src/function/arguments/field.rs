//! The fields that arguments make in a call line.

/// A field of a call line, in the order in which a line has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// What is launched, asked for or registered: the handle by which a kernel's name is known.
    Function,
    /// Three sizes.
    Grid,
    Block,
    /// Dynamic shared memory of a block, in bytes.
    SharedBytes,
    /// Bytes allocated, copied or set.
    Bytes,
    /// Operations in a batch.
    Count,
    /// Direction of a copy: see [`Direction`].
    Kind,
    /// Memory that is allocated, freed, mapped or set.
    Pointer,
    Destination,
    Source,
    /// Handle of physical memory, which [`Self::Pointer`] is mapped to.
    Allocation,
    Module,
    Graph,
    /// An executable graph.
    GraphExec,
    Event,
    Stream,
}

/// How a field is written in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A number.
    Number,
    /// An address or handle, as text: `"0x7f5c2a000000"`.
    Hexadecimal,
    /// Text.
    Text,
    /// Three numbers: `[128,1,1]`.
    Triple,
}

impl Field {
    pub const ALL: [Self; 16] = [
        Self::Function,
        Self::Grid,
        Self::Block,
        Self::SharedBytes,
        Self::Bytes,
        Self::Count,
        Self::Kind,
        Self::Pointer,
        Self::Destination,
        Self::Source,
        Self::Allocation,
        Self::Module,
        Self::Graph,
        Self::GraphExec,
        Self::Event,
        Self::Stream,
    ];

    /// The key in the JSON of a line.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Grid => "grid",
            Self::Block => "block",
            Self::SharedBytes => "shared_bytes",
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Kind => "kind",
            Self::Pointer => "ptr",
            Self::Destination => "dst",
            Self::Source => "src",
            Self::Allocation => "allocation",
            Self::Module => "module",
            Self::Graph => "graph",
            Self::GraphExec => "graph_exec",
            Self::Event => "event",
            Self::Stream => "stream",
        }
    }

    pub const fn form(self) -> Form {
        match self {
            Self::SharedBytes | Self::Bytes | Self::Count => Form::Number,
            Self::Grid | Self::Block => Form::Triple,
            Self::Kind => Form::Text,
            Self::Function
            | Self::Pointer
            | Self::Destination
            | Self::Source
            | Self::Allocation
            | Self::Module
            | Self::Graph
            | Self::GraphExec
            | Self::Event
            | Self::Stream => Form::Hexadecimal,
        }
    }
}

/// From where to where a copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    HostToHost,
    HostToDevice,
    DeviceToHost,
    DeviceToDevice,
    /// The library tells it from the addresses.
    Default,
}

impl Direction {
    /// The value of [`Field::Kind`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostToHost => "HtoH",
            Self::HostToDevice => "HtoD",
            Self::DeviceToHost => "DtoH",
            Self::DeviceToDevice => "DtoD",
            Self::Default => "default",
        }
    }

    /// That of a `cudaMemcpyKind` (`driver_types.h`).
    pub const fn of_kind(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::HostToHost,
            1 => Self::HostToDevice,
            2 => Self::DeviceToHost,
            3 => Self::DeviceToDevice,
            4 => Self::Default,
            _ => return None,
        })
    }

    /// That between two `CUmemorytype` (`cuda.h`). Arrays are in device memory.
    pub const fn between(source: u32, destination: u32) -> Option<Self> {
        use super::value::{ARRAY_MEMORY, DEVICE_MEMORY, HOST_MEMORY, UNIFIED_MEMORY};
        Some(match (source, destination) {
            (HOST_MEMORY, HOST_MEMORY) => Self::HostToHost,
            (HOST_MEMORY, DEVICE_MEMORY | ARRAY_MEMORY) => Self::HostToDevice,
            (DEVICE_MEMORY | ARRAY_MEMORY, HOST_MEMORY) => Self::DeviceToHost,
            (DEVICE_MEMORY | ARRAY_MEMORY, DEVICE_MEMORY | ARRAY_MEMORY) => Self::DeviceToDevice,
            (HOST_MEMORY..=UNIFIED_MEMORY, HOST_MEMORY..=UNIFIED_MEMORY) => Self::Default,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_have_the_numbers_of_the_headers() {
        let names = |kinds: [Option<Direction>; 6]| kinds.map(|kind| kind.map(Direction::name));
        assert_eq!(
            names([0, 1, 2, 3, 4, 5].map(Direction::of_kind)),
            [Some("HtoH"), Some("HtoD"), Some("DtoH"), Some("DtoD"), Some("default"), None]
        );
        assert_eq!(
            names(
                [(1, 1), (1, 2), (3, 1), (2, 3), (4, 1), (0, 1)]
                    .map(|(from, to)| Direction::between(from, to))
            ),
            [Some("HtoH"), Some("HtoD"), Some("DtoH"), Some("DtoD"), Some("default"), None]
        );
    }

    #[test]
    fn all_fields_are_in_order_and_have_keys_of_their_own() {
        assert!(Field::ALL.is_sorted());
        let keys: std::collections::BTreeSet<_> = Field::ALL.map(Field::key).into();
        assert_eq!(keys.len(), Field::ALL.len());
    }
}
