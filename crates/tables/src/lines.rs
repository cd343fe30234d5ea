//! A segment as one Parquet file: a row for each line, in their order, and no line is lost.
//!
//! A call that its columns spell as its line did, and the names of the fields that are `null` in it, has
//! nothing else. Every other line, meta lines among them, stands in the column `json` as it was. So the lines read back are those written, byte for
//! byte, and a checksum of all of them proves it.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use anyhow::{Context as _, Result, anyhow, bail};
use parquet::data_type::ByteArray;
use serde::Deserialize;
use trace::{
    call_view::{CallView, LineView, Parser, from_milliseconds},
    line::{Clock, Kernel, META_TYPE, Meta, MetaLine},
    reader::{is_parquet, open_content},
    segment_name::{Format, SegmentName},
};
use twox_hash::XxHash64;

use crate::{
    call_text::{self, COLUMNS, Nulls, Value, push_call},
    read::{Chunks, Damaged, Disk, RowReader, TableReader},
    schema::{CHECKSUM_KEY, LINES, RUN_KEY, SEQUENCE_KEY, TABLE_KEY, VERSION_KEY},
    texts::Texts,
    write::{Finished, Rows, TableFile},
};

/// Rows that are compressed together, and text of them: about 20 MiB, as the sidecar has little room.
const GROUP_ROWS: usize = 1 << 15;
const GROUP_TEXT_BYTES: usize = 8 << 20;

/// A longer line takes memory several times over. The sidecar's longest, of a graph with a million
/// kernels, is shorter.
const MAX_LINE_BYTES: u64 = 8 << 20;

/// Lines between two looks at whether to stop.
const TURN: u64 = 1 << 12;

/// What names of kernels and roles of processes may take that are kept for the lines behind; others
/// have none.
const MAX_KEPT_BYTES: usize = 16 << 20;

/// For each of them, beside its text.
const ENTRY_BYTES: usize = 160;

/// Text that is made of rows at once.
const PIECE_BYTES: usize = 1 << 18;

/// Why no table was made of lines that are in order.
#[derive(Debug)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("there was no time to finish")
    }
}

impl std::error::Error for Stopped {}

/// Writes the lines of a closed segment to `path`, under another name until it is published. Fails
/// at a line that is none; nothing is left then.
pub fn write(
    mut input: impl BufRead,
    path: &Path,
    name: &SegmentName,
    is_stopped: impl Fn() -> bool,
) -> Result<Finished> {
    let run = name.run.to_string();
    let metadata = [
        (VERSION_KEY, crate::schema::SCHEMA_VERSION.to_string()),
        (TABLE_KEY, LINES.name.to_owned()),
        (RUN_KEY, run.clone()),
        (SEQUENCE_KEY, name.sequence.to_string()),
    ];
    let mut file = TableFile::create(&LINES, path, &metadata)?;
    let mut writer = LineRows::new(&run, name.sequence);
    let mut parser = Parser::default();
    let mut checksum = XxHash64::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            break;
        }
        checksum_of(&mut checksum, &line);
        let text = line.strip_suffix(b"\n").context("it is cut off, or too long");
        text.and_then(|text| {
            let view = parser.parse(text).map_err(|reason| anyhow!("{reason}"))?;
            writer.push(&mut file.rows, number, text, &view)
        })
        .with_context(|| format!("line {number}"))?;
        if file.rows.count() >= GROUP_ROWS || file.rows.text_bytes() >= GROUP_TEXT_BYTES {
            file.write_rows()?;
        }
        if number % TURN == 0 && is_stopped() {
            return Err(Stopped.into());
        }
    }
    file.tell(CHECKSUM_KEY, format!("{:016x}", std::hash::Hasher::finish(&checksum)));
    file.finish()
}

fn checksum_of(checksum: &mut XxHash64, bytes: &[u8]) {
    std::hash::Hasher::write(checksum, bytes);
}

/// What is known where a line stands.
struct LineRows {
    run: ByteArray,
    sequence: u64,
    clock: Option<Clock>,
    processes: HashMap<u32, OfProcess>,
    kernels: HashMap<u32, ByteArray>,
    /// That both take.
    kept_bytes: usize,
    texts: Texts,
    spelled: Vec<u8>,
}

#[derive(Default, Clone)]
struct OfProcess {
    role: Option<ByteArray>,
    ranks: Option<ByteArray>,
}

impl OfProcess {
    fn bytes(&self) -> usize {
        let text = |text: &Option<ByteArray>| text.as_ref().map_or(0, ByteArray::len);
        text(&self.role) + text(&self.ranks) + ENTRY_BYTES
    }
}

impl LineRows {
    fn new(run: &str, sequence: u64) -> Self {
        Self {
            run: ByteArray::from(run),
            sequence,
            clock: None,
            processes: HashMap::new(),
            kernels: HashMap::new(),
            kept_bytes: 0,
            texts: Texts::default(),
            spelled: Vec::new(),
        }
    }

    fn push(
        &mut self,
        rows: &mut Rows,
        number: u64,
        text: &[u8],
        view: &LineView<'_>,
    ) -> Result<()> {
        match view {
            LineView::Call(call) => {
                let values = call_text::values(call);
                let nulls = self.spelling(&values, text);
                let json = if nulls.is_some() { None } else { Some(verbatim(text)?) };
                let nulls = nulls.unwrap_or_default();
                let process = self.processes.get(&call.pid).cloned().unwrap_or_default();
                let kernel = call.kernel.and_then(|kernel| self.kernels.get(&kernel).cloned());
                self.row(rows, number, process, kernel, &values, nulls, json);
            }
            LineView::Meta(line) => {
                self.learn(line);
                let func = func_of(text)?;
                let call = CallView {
                    ts_ns: from_milliseconds(line.ts),
                    pid: line.pid,
                    api: META_TYPE,
                    func: &func,
                    phase: META_TYPE,
                    ..CallView::default()
                };
                let json = Some(verbatim(text)?);
                let values = call_text::values(&call);
                let nulls = Nulls::default();
                self.row(rows, number, OfProcess::default(), None, &values, nulls, json);
            }
        }
        Ok(())
    }

    /// The fields that are `null`, if the columns and they spell the line as it is.
    fn spelling(&mut self, values: &[Value<'_>; COLUMNS.len()], text: &[u8]) -> Option<Nulls> {
        let mut is_spelled = |nulls| {
            self.spelled.clear();
            push_call(&mut self.spelled, &mut &values[..], 0, nulls);
            self.spelled.strip_suffix(b"\n") == Some(text)
        };
        let none = Nulls::default();
        if is_spelled(none) {
            return Some(none);
        }
        let nulls = Nulls::of_line(text);
        (!nulls.is_empty() && is_spelled(nulls)).then_some(nulls)
    }

    /// In the order of [`LINES`].
    #[expect(clippy::too_many_arguments, reason = "the columns of a row")]
    fn row(
        &mut self,
        rows: &mut Rows,
        number: u64,
        OfProcess { role, ranks }: OfProcess,
        kernel_name: Option<ByteArray>,
        values: &[Value<'_>; COLUMNS.len()],
        nulls: Nulls,
        json: Option<ByteArray>,
    ) {
        let ts_ns = if let Value::Integer(ts_ns) = values[0] { ts_ns } else { 0 };
        let mut row = rows
            .row()
            .text(self.run.clone())
            .unsigned(self.sequence)
            .unsigned(number)
            .integer(self.clock.and_then(|clock| microseconds(&clock, ts_ns)))
            .text(role)
            .text(ranks)
            .text(kernel_name);
        for value in values {
            row = match *value {
                Value::Nothing => row.nothing(),
                Value::Integer(number) => row.integer(number),
                Value::Text(text) => row.text(self.texts.of(text)),
            };
        }
        let nulls = (!nulls.is_empty()).then(|| self.texts.of(&nulls.text()));
        row.text(nulls).text(json).end();
    }

    fn learn(&mut self, line: &MetaLine) {
        match &line.meta {
            Meta::SegmentOpen(open) => self.clock = Some(open.clock),
            Meta::Process(process) => {
                let ranks: Vec<String> =
                    process.ranks.iter().map(|(kind, rank)| format!("{kind}{rank}")).collect();
                let ranks = (!ranks.is_empty()).then(|| ByteArray::from(&ranks.join(" ")[..]));
                let role = process.role.as_deref().map(ByteArray::from);
                let process = OfProcess { role, ranks };
                let taken = process.bytes();
                if let Some(old) = self.processes.remove(&line.pid) {
                    self.kept_bytes -= old.bytes();
                }
                if self.kept_bytes + taken <= MAX_KEPT_BYTES {
                    self.kept_bytes += taken;
                    self.processes.insert(line.pid, process);
                }
            }
            Meta::Kernel(Kernel { id, name, demangled, .. }) => {
                if let Some(old) = self.kernels.remove(id) {
                    self.kept_bytes -= old.len() + ENTRY_BYTES;
                }
                let Some(name) = demangled.as_deref().or(name.as_deref()) else { return };
                let taken = name.len() + ENTRY_BYTES;
                if self.kept_bytes + taken <= MAX_KEPT_BYTES {
                    self.kept_bytes += taken;
                    self.kernels.insert(*id, ByteArray::from(name));
                }
            }
            _ => {}
        }
    }
}

/// A line as it is. Readers of tables rely on text being text.
fn verbatim(text: &[u8]) -> Result<ByteArray> {
    let text = std::str::from_utf8(text).context("it is not UTF-8")?;
    Ok(ByteArray::from(text))
}

/// What kind of meta line it is.
fn func_of(line: &[u8]) -> Result<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct OfKind<'a> {
        #[serde(borrow)]
        func: Cow<'a, str>,
    }
    let OfKind { func } = serde_json::from_slice(line)?;
    Ok(func)
}

/// Since 1970.
fn microseconds(clock: &Clock, ts_ns: i64) -> Option<i64> {
    let Clock { start_monotonic_ns, monotonic_ns, realtime_ns } = clock;
    let start =
        i128::from(*realtime_ns) - i128::from(*monotonic_ns) + i128::from(*start_monotonic_ns);
    i64::try_from((start + i128::from(ts_ns)).div_euclid(1000)).ok()
}

/// Opens a segment or any other file of lines, unpacked if its first bytes say that it is compressed,
/// or that it is a table. One that is called a table has to be one.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::new(File::open(path)?);
    let is_called_table = path.extension().is_some_and(|it| it == Format::Parquet.extension());
    if is_called_table || is_parquet(file.fill_buf()?) {
        return Ok(Box::new(Lines::new(Disk::new(file.into_inner()))?));
    }
    open_content(file)
}

/// The lines of a segment that is a table. Nothing can be read after an error.
pub struct Lines<C: Chunks = Disk> {
    rows: RowReader<C>,
    text: Vec<u8>,
    read: usize,
    checksum: XxHash64,
    expected: u64,
    /// Told once the lines before it have been read.
    failure: Option<io::Error>,
    has_ended: bool,
}

impl<C: Chunks> Lines<C> {
    pub fn new(content: C) -> io::Result<Self> {
        unless_damaged(|| {
            let file = TableReader::new(content)?;
            match file.told(TABLE_KEY) {
                Some(table) if table == LINES.name => {}
                Some(table) => bail!("it is the table {table:?} of an export, not a segment"),
                None => bail!("it is a table, but not of a trace"),
            }
            let expected =
                file.told(CHECKSUM_KEY).and_then(|text| u64::from_str_radix(text, 16).ok());
            let expected = expected.context("it has no checksum of its lines")?;
            let columns = [&["json", "null_fields"][..], &COLUMNS].concat();
            Ok(Self {
                rows: file.rows(&LINES, &columns)?,
                text: Vec::new(),
                read: 0,
                checksum: XxHash64::default(),
                expected,
                failure: None,
                has_ended: false,
            })
        })
    }

    /// Until there is enough, or the end.
    fn fill(&mut self) -> Result<()> {
        while self.text.len() < PIECE_BYTES {
            if !self.rows.advance()? {
                self.has_ended = true;
                checksum_of(&mut self.checksum, &self.text);
                if std::hash::Hasher::finish(&self.checksum) != self.expected {
                    bail!(Damaged("its lines".to_owned()));
                }
                return Ok(());
            }
            if let Some(line) = self.rows.text(0) {
                self.text.extend_from_slice(line);
                self.text.push(b'\n');
                (1..2 + COLUMNS.len()).for_each(|column| self.rows.skip(column));
            } else {
                let nulls = self.rows.text(1).map(Nulls::parse).unwrap_or_default();
                push_call(&mut self.text, &mut self.rows, 2, nulls);
            }
        }
        checksum_of(&mut self.checksum, &self.text);
        Ok(())
    }
}

impl<C: Chunks> BufRead for Lines<C> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.text.len() {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            self.text.clear();
            self.read = 0;
            if !self.has_ended
                && let Err(error) = unless_damaged(|| self.fill())
            {
                self.has_ended = true;
                // Half a line, where the library has panicked within one, is none.
                self.text.truncate(
                    self.text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1),
                );
                if self.text.is_empty() {
                    return Err(error);
                }
                self.failure = Some(error);
            }
        }
        Ok(&self.text[self.read..])
    }

    fn consume(&mut self, amount: usize) {
        self.read += amount;
    }
}

impl<C: Chunks> Read for Lines<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let text = self.fill_buf()?;
        let length = text.len().min(buffer.len());
        buffer[..length].copy_from_slice(&text[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// The library that reads Parquet may panic on what no writer makes.
fn unless_damaged<T>(read: impl FnOnce() -> Result<T>) -> io::Result<T> {
    let result = catch_unwind(AssertUnwindSafe(read));
    let result = result.unwrap_or_else(|_| bail!("the file is damaged"));
    result.map_err(Damaged::as_io_error)
}

#[cfg(test)]
mod tests;
