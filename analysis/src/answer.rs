//! What a question ends in: defined once, shown as text, as JSON or as a part of a HTML page.

pub mod html;
pub mod json;
pub(crate) mod legend;
pub mod text;
pub mod units;

use crate::{grade::Grade, timeline::Timeline};

#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// As on the command line.
    pub question: &'static str,
    /// What matters most, for people; figures in it stand below too.
    pub sentences: Vec<String>,
    /// What somebody who reads one line wants of it; the report begins with those of all questions.
    pub headlines: Vec<Headline>,
    pub figures: Vec<Figure>,
    pub tables: Vec<Table>,
    pub series: Vec<Series>,
    /// How the figures are to be read.
    pub notes: Vec<String>,
    /// Why what the question is for could not be done.
    pub failure: Option<String>,
}

/// The answer to what a newcomer asks.
#[derive(Debug, Clone)]
pub struct Headline {
    /// What is asked for: "kernel launched most".
    pub title: &'static str,
    pub value: Value,
    pub unit: Unit,
    pub grade: Grade,
    /// A sentence or two beside it.
    pub detail: String,
}

/// One number or text.
#[derive(Debug, Clone)]
pub struct Figure {
    /// For programs: letters, digits and `_`, with the unit at its end (`span_ns`).
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    pub value: Value,
    pub unit: Unit,
    pub grade: Grade,
}

#[derive(Debug, Clone)]
pub struct Table {
    /// For programs, and unlike any other of the answer.
    pub name: &'static str,
    pub title: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Vec<Cell>>,
    /// Rows that text shows; JSON has all.
    pub shown: usize,
    /// How the report draws it.
    pub chart: Option<Chart>,
    /// What the report says of how to read it.
    pub reading: &'static str,
}

/// What is drawn of a table, by the names of its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chart {
    /// In every cell of these columns, a bar as long as its part of the column's largest value.
    Bars(&'static [&'static str]),
    /// A point for each row, in a colour for each value of `by`; `x` is a time since the start of
    /// the run. Where only a bound of `y` is known, the point is hollow.
    Points { title: &'static str, x: &'static str, y: &'static str, by: &'static str },
    /// In every row one bar of these columns, which add up; as long as its part of the longest.
    Stack(&'static [&'static str]),
}

#[derive(Debug, Clone)]
pub struct Column {
    pub name: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    /// Of every cell that has no other.
    pub grade: Grade,
    pub is_shown: bool,
}

#[derive(Debug, Clone)]
pub struct Cell {
    pub value: Value,
    /// `None`: that of its column.
    pub grade: Option<Grade>,
}

/// A figure over time.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub title: String,
    /// Of a value.
    pub unit: Unit,
    pub grade: Grade,
    /// When the first interval begins: nanoseconds since 1970, or since the start of the run where
    /// no clock is known.
    pub start_ns: i64,
    pub has_clock: bool,
    pub width_ns: i64,
    /// A level that holds, of which an interval has the highest; else an interval has its sum.
    pub is_level: bool,
    /// By interval; `None` where nothing was seen.
    pub values: Vec<Option<f64>>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Not known, or there is none.
    #[default]
    None,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// Several values that belong together, such as the ends of an interval.
    Object(Vec<(&'static str, Value)>),
}

/// What a value counts. Values are in the base unit, text shows them in a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Text, numbers of processes: no unit.
    #[default]
    None,
    Count,
    PerSecond,
    Nanoseconds,
    /// Since 1970.
    UnixNanoseconds,
    Bytes,
    /// A part of one.
    Ratio,
}

impl Answer {
    pub fn new(question: &'static str) -> Self {
        Self { question, ..Self::default() }
    }

    pub fn headline(
        &mut self,
        title: &'static str,
        unit: Unit,
        value: impl Into<Value>,
        grade: Grade,
        detail: impl Into<String>,
    ) {
        let (value, detail) = (value.into(), detail.into());
        self.headlines.push(Headline { title, value, unit, grade, detail });
    }

    pub fn figure(
        &mut self,
        name: &'static str,
        title: &'static str,
        unit: Unit,
        value: impl Into<Value>,
        grade: Grade,
    ) {
        self.figures.push(Figure { name, title, value: value.into(), unit, grade });
    }

    /// Left out where nothing was added.
    pub fn series(
        &mut self,
        name: impl Into<String>,
        title: impl Into<String>,
        unit: Unit,
        grade: Grade,
        timeline: &Timeline,
        time: &crate::context::time::Time,
    ) {
        let values: Vec<_> = timeline.values().collect();
        if values.is_empty() {
            return;
        }
        let unix_ns = time.unix_ns(timeline.start_ns());
        self.series.push(Series {
            name: name.into(),
            title: title.into(),
            unit,
            grade,
            start_ns: unix_ns.unwrap_or_else(|| timeline.start_ns()),
            has_clock: unix_ns.is_some(),
            width_ns: timeline.width_ns(),
            is_level: timeline.is_level(),
            values,
        });
    }
}

impl Table {
    pub fn new(name: &'static str, title: impl Into<String>, columns: Vec<Column>) -> Self {
        Self {
            name,
            title: title.into(),
            columns,
            rows: Vec::new(),
            shown: usize::MAX,
            chart: None,
            reading: "",
        }
    }
}

impl Column {
    pub fn new(name: &'static str, title: &'static str, unit: Unit) -> Self {
        Self { name, title, unit, grade: Grade::Exact, is_shown: true }
    }

    #[must_use]
    pub fn graded(self, grade: Grade) -> Self {
        Self { grade, ..self }
    }

    /// In JSON only.
    #[must_use]
    pub fn hidden(self) -> Self {
        Self { is_shown: false, ..self }
    }
}

impl Cell {
    pub fn graded(value: impl Into<Value>, grade: Grade) -> Self {
        Self { value: value.into(), grade: Some(grade) }
    }

    /// Known as the column says, unless there is a reason against it.
    pub fn unless(reason: Option<&str>, value: impl Into<Value>) -> Self {
        Self { value: value.into(), grade: reason.map(Grade::unknown) }
    }

    /// A count, to which more may belong.
    pub fn count(count: u64, is_part: bool) -> Self {
        if is_part { Self::graded(count, Grade::at_least(count as f64)) } else { count.into() }
    }
}

impl<T: Into<Value>> From<T> for Cell {
    fn from(value: T) -> Self {
        Self { value: value.into(), grade: None }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),*) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from!(bool => Bool, u16 => Integer, u32 => Integer, u64 => Integer, i64 => Integer,
    f64 => Float, String => Text, &str => Text);

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}
