//! What `torch.profiler` has written: launches on threads, and what the GPU did of them.
//!
//! The file comes from elsewhere and may be large: it is read as a stream, plain or as gzip, told by its
//! bytes; what is kept is bounded, and so is every text in it.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, Result};
use flate2::bufread::MultiGzDecoder;
use serde::{
    Deserialize,
    de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::questions::steps::operation::Operation;

/// Unpacked: a profile of ten seconds of an eager engine has less.
const MAX_BYTES: u64 = 4 << 30;

/// A kernel's name has some thousand.
const MAX_TEXT: usize = 1 << 16;

/// 30 s of an engine that launches each kernel by itself.
const MAX_LAUNCHES: usize = 1_000_000;
const MAX_ACTIVITIES: usize = 1_000_000;

const MAX_NAMES: usize = 65_536;
const MAX_NAME_BYTES: usize = 16 << 20;

/// Times since 1970 that can be subtracted.
const MAX_TIME_NS: f64 = 4.0e18;

/// A launch, a copy or a fill, as CUPTI saw the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Launch {
    /// Place in [`Profile::threads`].
    pub(super) thread: u32,
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) operation: Operation,
    pub(super) is_runtime: bool,
    pub(super) correlation: u64,
}

/// What the GPU did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Activity {
    pub(super) begin: i64,
    pub(super) end: i64,
    /// Place in [`Profile::names`].
    pub(super) name: u32,
    pub(super) device: u32,
    pub(super) stream: u32,
    pub(super) correlation: u64,
    pub(super) grid: Option<[u32; 3]>,
    pub(super) block: Option<[u32; 3]>,
    pub(super) bytes: Option<u64>,
}

/// Times are nanoseconds since 1970, by the profiler's clock.
#[derive(Debug, Default)]
pub(super) struct Profile {
    /// Process and thread, as the profiler numbers them.
    pub(super) threads: Vec<(i64, i64)>,
    pub(super) names: Vec<Box<str>>,
    /// In the order of their times.
    pub(super) launches: Vec<Launch>,
    /// The same.
    pub(super) activities: Vec<Activity>,
    /// Launches and activities without a time, thread or correlation, or beyond what is kept.
    pub(super) left_out: u64,
}

/// An error is a file that cannot be opened; what is wrong inside is the inner one.
pub(super) fn read(path: &Path) -> Result<Result<Profile, String>> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).with_context(cannot)?);
    let is_gzip = file.fill_buf().with_context(cannot)?.starts_with(&[0x1f, 0x8b]);
    Ok(if is_gzip { parse(MultiGzDecoder::new(file)) } else { parse(file) })
}

fn parse(file: impl Read) -> Result<Profile, String> {
    let bounded = Bounded { file, left: MAX_BYTES, is_text: false, is_escaped: false, length: 0 };
    let mut json =
        serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 16, bounded));
    let document = Document::deserialize(&mut json).map_err(|error| error.to_string())?;
    // Half a document is no profile; what stands behind a whole one does not matter.
    document.profile()
}

/// Ends a file that is too long, or whose texts are: a parser would keep them.
struct Bounded<R> {
    file: R,
    left: u64,
    is_text: bool,
    is_escaped: bool,
    /// Of the text, or of what is between two of them without a blank or a comma.
    length: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.file.read(buffer)?;
        self.left = self.left.checked_sub(size as u64).ok_or_else(|| {
            io::Error::other(format!(
                "has more than {} GiB when unpacked: record a shorter window",
                MAX_BYTES >> 30
            ))
        })?;
        for &byte in &buffer[..size] {
            self.length += 1;
            if self.is_text {
                match byte {
                    _ if self.is_escaped => self.is_escaped = false,
                    b'\\' => self.is_escaped = true,
                    b'"' => (self.is_text, self.length) = (false, 0),
                    _ => {}
                }
            } else if byte == b'"' {
                (self.is_text, self.length) = (true, 0);
            } else if !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
                self.length = 0;
            }
            if self.length > MAX_TEXT {
                return Err(io::Error::other(format!("has a text of more than {MAX_TEXT} bytes")));
            }
        }
        Ok(size)
    }
}

/// As it stands in the file: the base of the times may come behind the events.
#[derive(Default)]
struct Document {
    base_ns: Option<i64>,
    events: Option<Events>,
}

#[derive(Default)]
struct Events {
    profile: Profile,
    names: HashMap<Box<str>, u32>,
    name_bytes: usize,
    threads: HashMap<(i64, i64), u32>,
}

impl Document {
    fn profile(self) -> Result<Profile, String> {
        let Some(Events { mut profile, .. }) = self.events else {
            return Err("has no traceEvents: it is no trace of torch.profiler".to_owned());
        };
        if profile.launches.is_empty() {
            return Err("has no launch: record with ProfilerActivity.CUDA".to_owned());
        }
        let base_ns = self.base_ns.unwrap_or(0);
        let shift = |times: [&mut i64; 2]| {
            for time in times {
                *time = time.saturating_add(base_ns);
            }
        };
        profile.launches.iter_mut().for_each(|it| shift([&mut it.begin, &mut it.end]));
        profile.activities.iter_mut().for_each(|it| shift([&mut it.begin, &mut it.end]));
        profile.launches.sort_by_key(|it| (it.begin, std::cmp::Reverse(it.end)));
        profile.activities.sort_by_key(|it| (it.begin, it.end));
        profile.without_inner();
        Ok(profile)
    }
}

impl Profile {
    /// Of a launch in another of the same thread, only the outer one.
    fn without_inner(&mut self) {
        let mut ends = vec![i64::MIN; self.threads.len()];
        self.launches.retain(|launch| {
            let end = &mut ends[launch.thread as usize];
            let is_inner = launch.end <= *end;
            *end = launch.end.max(*end);
            !is_inner
        });
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a trace of torch.profiler")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document::default();
                while let Some(key) = map.next_key::<String>()? {
                    match &*key {
                        "baseTimeNanoseconds" => {
                            document.base_ns = map.next_value::<Loose>()?.integer();
                        }
                        "traceEvents" if document.events.is_some() => {
                            return Err(A::Error::custom("has traceEvents twice"));
                        }
                        "traceEvents" => document.events = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(document)
            }

            /// The older form is the events alone.
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Document, A::Error> {
                Ok(Document { base_ns: None, events: Some(Events::all(seq)?) })
            }
        }
        deserializer.deserialize_any(Fields)
    }
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Events;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of events")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Events, A::Error> {
                Events::all(seq)
            }
        }
        deserializer.deserialize_seq(Elements)
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    ph: Loose,
    #[serde(default)]
    cat: Loose,
    #[serde(default)]
    name: Loose,
    #[serde(default)]
    pid: Loose,
    #[serde(default)]
    tid: Loose,
    /// Microseconds.
    #[serde(default)]
    ts: Loose,
    #[serde(default)]
    dur: Loose,
    #[serde(default)]
    args: Arguments,
}

#[derive(Default)]
struct Arguments {
    correlation: Loose,
    device: Loose,
    stream: Loose,
    grid: Loose,
    block: Loose,
    bytes: Loose,
}

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Arguments;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("arguments of an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Arguments, A::Error> {
                let mut arguments = Arguments::default();
                while let Some(key) = map.next_key::<String>()? {
                    let field = match &*key {
                        "correlation" => &mut arguments.correlation,
                        "device" => &mut arguments.device,
                        "stream" => &mut arguments.stream,
                        "grid" => &mut arguments.grid,
                        "block" => &mut arguments.block,
                        "bytes" => &mut arguments.bytes,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    *field = map.next_value()?;
                }
                Ok(arguments)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// A value of whatever kind: versions differ in what is a number and what a text.
#[derive(Debug, Default, PartialEq)]
enum Loose {
    #[default]
    None,
    Integer(i64),
    Float(f64),
    Text(Box<str>),
    /// Of a list the first three.
    Triple([u32; 3]),
}

impl Loose {
    fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    /// From microseconds.
    fn ns(&self) -> Option<i64> {
        let ns = match self {
            Self::Integer(us) => return us.checked_mul(1000).filter(|ns| *ns < i64::MAX / 2),
            Self::Float(us) => us * 1000.0,
            Self::Text(text) => text.parse::<f64>().ok()? * 1000.0,
            _ => return None,
        };
        #[expect(clippy::cast_possible_truncation, reason = "bounded by MAX_TIME_NS")]
        (ns.is_finite() && ns.abs() < MAX_TIME_NS).then_some(ns.round() as i64)
    }

    fn small(&self) -> u32 {
        self.integer().and_then(|number| number.try_into().ok()).unwrap_or(0)
    }

    fn triple(&self) -> Option<[u32; 3]> {
        if let Self::Triple(triple) = self { Some(*triple) } else { None }
    }
}

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;
        impl<'de> Visitor<'de> for Anything {
            type Value = Loose;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
                Ok(Loose::None)
            }

            fn visit_unit<E>(self) -> Result<Loose, E> {
                Ok(Loose::None)
            }

            fn visit_i64<E>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose::Integer(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Loose, E> {
                Ok(number.try_into().map_or(Loose::None, Loose::Integer))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Loose, E> {
                Ok(Loose::Float(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Loose, A::Error> {
                let (mut triple, mut count) = ([1; 3], 0);
                while let Some(value) = seq.next_element::<Loose>()? {
                    if let Some(place) = triple.get_mut(count) {
                        *place = value.small();
                    }
                    count += 1;
                }
                Ok(if count == 3 { Loose::Triple(triple) } else { Loose::None })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Loose, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose::None)
            }
        }
        deserializer.deserialize_any(Anything)
    }
}

impl Events {
    fn all<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut events = Self::default();
        while let Some(event) = seq.next_element::<Event>()? {
            events.add(&event);
        }
        Ok(events)
    }

    fn add(&mut self, event: &Event) {
        if event.ph.text() != "X" {
            return;
        }
        let name = event.name.text();
        match event.cat.text() {
            "cuda_runtime" | "cuda_driver" => {
                let Some(operation) = launching(name) else { return };
                let is_added = self.launch(event, operation, name.starts_with("cuda")).is_some();
                self.profile.left_out += u64::from(!is_added);
            }
            "kernel" | "gpu_memcpy" | "gpu_memset" => {
                let is_added = self.activity(event, name).is_some();
                self.profile.left_out += u64::from(!is_added);
            }
            _ => {}
        }
    }

    fn launch(&mut self, event: &Event, operation: Operation, is_runtime: bool) -> Option<()> {
        if self.profile.launches.len() >= MAX_LAUNCHES {
            return None;
        }
        let begin = event.ts.ns()?;
        let end = begin.checked_add(event.dur.ns()?.max(0))?;
        let correlation = event.args.correlation.integer()?.cast_unsigned();
        let thread = (event.pid.integer()?, event.tid.integer()?);
        let next = u32::try_from(self.threads.len()).ok()?;
        let thread = *self.threads.entry(thread).or_insert_with(|| {
            self.profile.threads.push(thread);
            next
        });
        let launch = Launch { thread, begin, end, operation, is_runtime, correlation };
        self.profile.launches.push(launch);
        Some(())
    }

    fn activity(&mut self, event: &Event, name: &str) -> Option<()> {
        if self.profile.activities.len() >= MAX_ACTIVITIES {
            return None;
        }
        let begin = event.ts.ns()?;
        let end = begin.checked_add(event.dur.ns()?.max(0))?;
        let Arguments { correlation, device, stream, grid, block, bytes } = &event.args;
        let correlation = correlation.integer()?.cast_unsigned();
        let name = self.intern(name)?;
        self.profile.activities.push(Activity {
            begin,
            end,
            name,
            device: device.small(),
            stream: stream.small(),
            correlation,
            grid: grid.triple(),
            block: block.triple(),
            bytes: bytes.integer().and_then(|bytes| bytes.try_into().ok()),
        });
        Some(())
    }

    fn intern(&mut self, name: &str) -> Option<u32> {
        if let Some(&place) = self.names.get(name) {
            return Some(place);
        }
        if self.names.len() >= MAX_NAMES || self.name_bytes + name.len() > MAX_NAME_BYTES {
            return None;
        }
        let place = u32::try_from(self.names.len()).ok()?;
        self.name_bytes += name.len();
        self.profile.names.push(name.into());
        self.names.insert(name.into(), place);
        Some(place)
    }
}

/// What a call queues, if CUPTI tells when it ran.
pub(super) fn launching(name: &str) -> Option<Operation> {
    use Operation::{Copy, GraphLaunch, Launch, Set};
    let operation = Operation::of(cuda::function::canonical(name));
    matches!(operation, Launch | GraphLaunch | Copy | Set).then_some(operation)
}
