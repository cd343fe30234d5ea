//! Reads the rows of one table, a bounded number of them at a time.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufReader},
    ops::Range,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use parquet::{
    basic::Type,
    column::reader::ColumnReader,
    data_type::ByteArray,
    file::{
        reader::{ChunkReader, FileReader as _, Length, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
};

use super::{
    Values,
    call_text::CallValues,
    checksum::Checksum,
    schema::{self, Kind, SCHEMA_VERSION, TABLE_KEY, Table, VERSION_KEY},
};

const BATCH_ROWS: usize = 4096;

/// What the columns of a group of rows that are read may unpack to: several times what the writer's
/// largest has.
const MAX_GROUP_BYTES: u64 = 512 << 20;

/// The bytes of a file, wherever it lies.
pub trait Chunks: ChunkReader + Clone + 'static {
    /// Says what will be read next; a file on disk needs no such thing.
    fn hold(&self, range: Range<u64>) -> parquet::errors::Result<()>;
}

/// A file of this machine.
#[derive(Clone)]
pub struct Disk(Arc<File>);

impl Disk {
    pub fn new(file: File) -> Self {
        Self(Arc::new(file))
    }
}

impl Length for Disk {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Disk {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

impl Chunks for Disk {
    fn hold(&self, _: Range<u64>) -> parquet::errors::Result<()> {
        Ok(())
    }
}

pub struct TableReader<C: Chunks = Disk> {
    file: SerializedFileReader<C>,
    content: C,
    metadata: BTreeMap<String, String>,
}

impl<C: Chunks> TableReader<C> {
    pub fn new(content: C) -> Result<Self> {
        let file = SerializedFileReader::new(content.clone()).context("not a Parquet file")?;
        let told = file.metadata().file_metadata().key_value_metadata();
        let metadata = told
            .into_iter()
            .flatten()
            .filter_map(|told| Some((told.key.clone(), told.value.clone()?)))
            .collect();
        Ok(Self { file, content, metadata })
    }

    /// Of the file's own metadata.
    pub fn told(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).map(String::as_str)
    }

    /// Whether it is that table, as this program writes it.
    pub fn is(&self, table: &Table) -> bool {
        self.told(TABLE_KEY) == Some(table.name)
    }

    /// The rows in their order, with some of the table's columns.
    pub fn rows(self, table: &Table, names: &[&str]) -> Result<RowReader<C>> {
        let version = self.told(VERSION_KEY).and_then(|text| text.parse::<u32>().ok());
        match version {
            Some(SCHEMA_VERSION) => {}
            Some(version) if version > SCHEMA_VERSION => bail!(
                "its schema version {version} is newer than {SCHEMA_VERSION}, which this program \
                 reads: update it"
            ),
            _ => bail!("it has no schema version that this program reads"),
        }
        let schema = self.file.metadata().file_metadata().schema_descr_ptr();
        let mut columns = Vec::new();
        for name in names {
            let of_table = table.columns[table.column(name).expect("a column of the table")];
            let found = (0..schema.num_columns()).find(|&at| schema.column(at).name() == *name);
            let Some(at) = found else {
                ensure!(!of_table.is_required, "it has no column {name}");
                columns.push(Column::new(None, of_table, None));
                continue;
            };
            let column = schema.column(at);
            let physical = if of_table.kind == Kind::Text { Type::BYTE_ARRAY } else { Type::INT64 };
            let fits = column.physical_type() == physical
                && column.max_rep_level() == 0
                && column.max_def_level() <= 1;
            ensure!(fits, "its column {name} is of another type than in docs/parquet.md");
            let expected = self.told(&Checksum::key(name)).map(str::to_owned);
            columns.push(Column::new(Some(at), of_table, expected));
        }
        Ok(RowReader {
            file: self.file,
            content: self.content,
            group: 0,
            left: 0,
            in_batch: 0,
            columns,
        })
    }
}

/// What was read is not what was written: none of it is to be trusted.
#[derive(Debug)]
pub struct Damaged(pub(crate) String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file is damaged: {} are not those that were written", self.0)
    }
}

impl std::error::Error for Damaged {}

impl Damaged {
    /// Of an error on the way to the reader of lines.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().and_then(|error| error.downcast_ref::<Self>()).is_some()
    }

    /// An error that [`Self::is`] knows again.
    pub fn as_io_error(error: anyhow::Error) -> io::Error {
        match error.downcast::<Self>() {
            Ok(damaged) => io::Error::new(io::ErrorKind::InvalidData, damaged),
            Err(error) => io::Error::new(io::ErrorKind::InvalidData, format!("{error:#}")),
        }
    }
}

/// Goes from row to row.
pub struct RowReader<C: Chunks = Disk> {
    file: SerializedFileReader<C>,
    content: C,
    /// The next one.
    group: usize,
    /// Rows of the current group that are not in a batch yet.
    left: usize,
    /// Rows of the batch that have not been given out yet.
    in_batch: usize,
    columns: Vec<Column>,
}

struct Column {
    name: &'static str,
    at: Option<usize>,
    checksum: Checksum,
    /// What the file says that it is, if it was written by a program that says so.
    expected: Option<String>,
    reader: Option<ColumnReader>,
    values: Values,
    levels: Vec<i16>,
    /// The next row and value of the batch.
    row: usize,
    value: usize,
    /// In the file.
    is_optional: bool,
    /// By the schema.
    is_required: bool,
}

impl<C: Chunks> RowReader<C> {
    /// False behind the last row; else the values of the next one are taken by [`RowReader::integer`]
    /// and [`RowReader::text`], each column's once.
    pub fn advance(&mut self) -> Result<bool> {
        if self.in_batch == 0 {
            while self.left == 0 {
                if self.group == self.file.num_row_groups() {
                    if let Some(Column { name, .. }) =
                        self.columns.iter().find(|column| !column.is_intact())
                    {
                        bail!(Damaged(format!("the values of its column {name}")));
                    }
                    return Ok(false);
                }
                self.next_group()?;
            }
            self.in_batch = self.left.min(BATCH_ROWS);
            self.left -= self.in_batch;
            for column in &mut self.columns {
                column.fill(self.in_batch)?;
            }
        }
        self.in_batch -= 1;
        Ok(true)
    }

    fn next_group(&mut self) -> Result<()> {
        let group = self.file.get_row_group(self.group)?;
        let rows = group.metadata().num_rows();
        let ranges = self.columns.iter().filter_map(|column| column.range(&*group));
        let all = ranges.reduce(|one, other| one.start.min(other.start)..one.end.max(other.end));
        self.content.hold(all.unwrap_or_default())?;
        self.left = usize::try_from(rows).context("a number of rows below zero")?;
        self.group += 1;
        let sizes = self
            .columns
            .iter()
            .filter_map(|column| Some(group.metadata().column(column.at?).uncompressed_size()));
        let unpacked = sizes.fold(0, |sum: u64, size| {
            // One below zero is none that a writer gives.
            sum.saturating_add(u64::try_from(size).unwrap_or(u64::MAX))
        });
        ensure!(
            unpacked <= MAX_GROUP_BYTES,
            "a group of rows unpacks to {unpacked} bytes, more than the {MAX_GROUP_BYTES} that are read: the file is \
             damaged, or of another program"
        );
        for column in &mut self.columns {
            column.open(&*group)?;
        }
        Ok(())
    }

    /// Passes over the value of a column.
    pub fn skip(&mut self, column: usize) {
        self.columns[column].next();
    }

    pub fn integer(&mut self, column: usize) -> Option<i64> {
        let column = &mut self.columns[column];
        let at = column.next()?;
        match &column.values {
            Values::Integers(values) => values.get(at).copied(),
            Values::Texts(_) => None,
        }
    }

    pub fn text(&mut self, column: usize) -> Option<&[u8]> {
        let column = &mut self.columns[column];
        let at = column.next()?;
        match &column.values {
            Values::Texts(values) => values.get(at).map(ByteArray::data),
            Values::Integers(_) => None,
        }
    }
}

impl<C: Chunks> CallValues for RowReader<C> {
    fn integer(&mut self, column: usize) -> Option<i64> {
        Self::integer(self, column)
    }

    fn text(&mut self, column: usize) -> Option<&[u8]> {
        Self::text(self, column)
    }
}

impl Column {
    fn new(at: Option<usize>, of_table: schema::Column, expected: Option<String>) -> Self {
        Self {
            name: of_table.name,
            at,
            checksum: Checksum::default(),
            expected,
            reader: None,
            values: Values::of(of_table.kind),
            levels: Vec::new(),
            row: 0,
            value: 0,
            is_optional: false,
            is_required: of_table.is_required,
        }
    }

    /// Behind the last row.
    fn is_intact(&self) -> bool {
        self.expected.as_ref().is_none_or(|expected| *expected == self.checksum.text())
    }

    /// Where its values lie in the file.
    fn range(&self, group: &dyn RowGroupReader) -> Option<Range<u64>> {
        let (start, length) = group.metadata().column(self.at?).byte_range();
        Some(start..start.saturating_add(length))
    }

    fn open(&mut self, group: &dyn RowGroupReader) -> Result<()> {
        let Some(at) = self.at else { return Ok(()) };
        self.is_optional = group.metadata().column(at).column_descr().max_def_level() == 1;
        self.reader = Some(group.get_column_reader(at)?);
        Ok(())
    }

    fn fill(&mut self, rows: usize) -> Result<()> {
        self.values.clear();
        self.levels.clear();
        (self.row, self.value) = (0, 0);
        let levels = self.is_optional.then_some(&mut self.levels);
        let (read, ..) = match (&mut self.reader, &mut self.values) {
            (None, _) => return Ok(()),
            (Some(ColumnReader::Int64ColumnReader(reader)), Values::Integers(values)) => {
                reader.read_records(rows, levels, None, values)?
            }
            (Some(ColumnReader::ByteArrayColumnReader(reader)), Values::Texts(values)) => {
                reader.read_records(rows, levels, None, values)?
            }
            _ => bail!("a column of another type"),
        };
        ensure!(read == rows, "a column has fewer rows than its group");
        let has_holes = self.is_optional && self.levels.contains(&0);
        ensure!(!(self.is_required && has_holes), "a row has no value in the column {}", self.name);
        self.checksum.add(&self.values, self.is_optional.then_some(&self.levels));
        Ok(())
    }

    /// Where the value of the next row is; `None` if it has none.
    fn next(&mut self) -> Option<usize> {
        let row = self.row;
        self.row += 1;
        if self.reader.is_none() || (self.is_optional && self.levels.get(row) != Some(&1)) {
            return None;
        }
        self.value += 1;
        Some(self.value - 1)
    }
}
