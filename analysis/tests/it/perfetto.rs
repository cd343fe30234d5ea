//! Reads a Perfetto trace, with nothing of the code that wrote it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

/// A piece of a track.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slice {
    pub(crate) track: u64,
    pub(crate) name: String,
    pub(crate) begin: u64,
    /// `None` of an instant.
    pub(crate) end: Option<u64>,
    /// Slices of the track around it.
    pub(crate) depth: usize,
    pub(crate) arguments: BTreeMap<String, String>,
    /// Flows that begin or go on here, and those that end.
    pub(crate) flows: Vec<u64>,
    pub(crate) ends: Vec<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) slices: Vec<Slice>,
    /// Track, time and value.
    pub(crate) counters: Vec<(u64, u64, u64)>,
    /// Names of tracks that have one.
    pub(crate) tracks: BTreeMap<u64, String>,
    /// Calls of each flow, and the steps in which it ends.
    pub(crate) flows: BTreeMap<u64, (usize, usize)>,
    /// Clock 1 and clock 6 at one moment.
    pub(crate) clocks: Vec<(u64, u64)>,
}

impl Timeline {
    pub(crate) fn on<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Slice> {
        self.slices
            .iter()
            .filter(move |slice| self.tracks.get(&slice.track).is_some_and(|it| it == name))
    }

    /// Of threads.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &Slice> {
        let is_call = |slice: &&Slice| {
            self.tracks.get(&slice.track).is_none_or(|name| name.starts_with("calls of"))
        };
        self.slices.iter().filter(is_call)
    }

    /// Time and value.
    pub(crate) fn counter(&self, name: &str) -> Vec<(u64, u64)> {
        let is_named = |track: &u64| self.tracks.get(track).is_some_and(|it| it == name);
        let of = self.counters.iter().filter(|(track, ..)| is_named(track));
        of.map(|&(_, time, value)| (time, value)).collect()
    }
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, by number.
struct Message<'a>(Vec<(u64, Value<'a>)>);

impl<'a> Message<'a> {
    fn of(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let value = match tag & 7 {
                0 => Value::Number(varint(&mut bytes)),
                1 => Value::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
                2 => {
                    let length = usize::try_from(varint(&mut bytes)).unwrap();
                    Value::Bytes(take(&mut bytes, length))
                }
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        Self(fields)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = Value<'a>> {
        self.0.iter().filter(move |(number, _)| *number == field).map(|&(_, value)| value)
    }

    fn number(&self, field: u64) -> Option<u64> {
        self.all(field).next().map(|value| match value {
            Value::Number(number) => number,
            Value::Bytes(_) => panic!("field {field} is no number"),
        })
    }

    fn messages(&self, field: u64) -> impl Iterator<Item = Message<'a>> {
        self.bytes(field).map(Message::of)
    }

    fn bytes(&self, field: u64) -> impl Iterator<Item = &'a [u8]> {
        self.all(field).map(move |value| match value {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) => panic!("field {field} is a number"),
        })
    }

    fn text(&self, field: u64) -> Option<String> {
        self.bytes(field).next().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a number is too long")
}

/// What the packets of a sequence have told.
#[derive(Default)]
struct Sequence {
    /// By the field of `InternedData`, and number.
    names: HashMap<(u64, u64), String>,
    track: Option<u64>,
    clock: Option<u64>,
    latest: Option<u64>,
}

struct Event {
    time: u64,
    r#type: u64,
    slice: Slice,
    value: Option<u64>,
}

pub(crate) fn read(path: &Path) -> Timeline {
    let content = fs::read(path).unwrap();
    let mut timeline = Timeline::default();
    let mut sequences: HashMap<u64, Sequence> = HashMap::new();
    let mut events = Vec::new();
    for packet in Message::of(&content).messages(1) {
        let sequence = sequences.entry(packet.number(10).unwrap()).or_default();
        if packet.number(13).is_some_and(|flags| flags & 1 != 0) {
            *sequence = Sequence::default();
        }
        for defaults in packet.messages(59) {
            sequence.clock = defaults.number(58);
            sequence.track = defaults.messages(11).find_map(|event| event.number(11));
        }
        for data in packet.messages(12) {
            for field in [1, 2, 3, 29] {
                for entry in data.messages(field) {
                    let iid = entry.number(1).unwrap();
                    sequence.names.insert((field, iid), entry.text(2).unwrap());
                }
            }
        }
        for snapshot in packet.messages(6) {
            let clocks: BTreeMap<u64, u64> = snapshot
                .messages(1)
                .map(|clock| (clock.number(1).unwrap(), clock.number(2).unwrap()))
                .collect();
            sequence.latest = clocks.get(&64).copied().or(sequence.latest);
            timeline.clocks.extend(clocks.get(&1).map(|unix| (*unix, clocks[&6])));
        }
        for track in packet.messages(60) {
            if let Some(name) = track.text(2) {
                timeline.tracks.insert(track.number(1).unwrap(), name);
            }
        }
        for event in packet.messages(11) {
            events.push(sequence.event(&packet, &event));
        }
    }
    events.sort_by_key(|event| event.time);
    timeline.fill(events);
    timeline
}

impl Sequence {
    fn event(&mut self, packet: &Message<'_>, event: &Message<'_>) -> Event {
        let timestamp = packet.number(8).unwrap();
        let time = match packet.number(58).or(self.clock) {
            None | Some(6) => timestamp,
            Some(64) => {
                let latest = self.latest.as_mut().expect("its clock is told");
                *latest += timestamp;
                *latest
            }
            Some(other) => panic!("clock {other}"),
        };
        let named = |field: u64, iid: u64| self.names[&(field, iid)].clone();
        let name = event.text(23).or_else(|| event.number(10).map(|iid| named(2, iid)));
        let value_of = |annotation: &Message<'_>| {
            let number = annotation.number(3).or(annotation.number(7));
            let text = annotation.number(17).map(|iid| named(29, iid));
            let signed = annotation.number(4).map(|number| number.cast_signed().to_string());
            number.map(|number| number.to_string()).or(signed).or(text).or(annotation.text(6))
        };
        let arguments = event.messages(4).map(|annotation| {
            let name =
                annotation.text(10).unwrap_or_else(|| named(3, annotation.number(1).unwrap()));
            let array = || annotation.messages(12).filter_map(|value| value_of(&value));
            let value =
                value_of(&annotation).unwrap_or_else(|| array().collect::<Vec<_>>().join(","));
            (name, value)
        });
        let numbers = |field| {
            event.all(field).map(|value| match value {
                Value::Number(number) => number,
                Value::Bytes(_) => panic!("a flow"),
            })
        };
        Event {
            time,
            r#type: event.number(9).unwrap(),
            value: event.number(30),
            slice: Slice {
                track: event.number(11).or(self.track).unwrap(),
                name: name.unwrap_or_default(),
                begin: time,
                end: None,
                depth: 0,
                arguments: arguments.collect(),
                flows: numbers(47).collect(),
                ends: numbers(48).collect(),
            },
        }
    }
}

impl Timeline {
    /// An end is that of the innermost slice of its track.
    fn fill(&mut self, events: Vec<Event>) {
        let mut open: BTreeMap<u64, Vec<Slice>> = BTreeMap::new();
        for Event { time, r#type, mut slice, value } in events {
            for &flow in &slice.flows {
                let (calls, steps) = self.flows.entry(flow).or_default();
                *calls += 1;
                assert_eq!(*steps, 0, "a flow goes on behind its end: {slice:?}");
            }
            for flow in &slice.ends {
                let (_, steps) = self.flows.get_mut(flow).expect("a flow begins before it ends");
                *steps += 1;
            }
            let stack = open.entry(slice.track).or_default();
            slice.depth = stack.len();
            match r#type {
                1 => stack.push(slice),
                2 => {
                    let ended = stack.pop().expect("an end has a beginning");
                    self.slices.push(Slice { end: Some(time), ..ended });
                }
                3 => self.slices.push(slice),
                4 => self.counters.push((slice.track, time, value.unwrap())),
                other => panic!("type {other}"),
            }
        }
        assert!(open.values().all(Vec::is_empty), "a slice has no end: {open:?}");
    }
}
