//! Reads the rows of one table, a bounded number of them at a time.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context as _, Result, bail, ensure};
use parquet::{
    basic::Type,
    column::reader::ColumnReader,
    data_type::ByteArray,
    file::{
        reader::{FileReader as _, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
};

use super::{
    Values,
    content::Content,
    schema::{Kind, SCHEMA_VERSION, TABLE_KEY, Table, VERSION_KEY},
};
use crate::input::location::Location;

const BATCH_ROWS: usize = 4096;

/// What one column of a group of rows may unpack to: ten times what the writer's largest has.
const MAX_COLUMN_BYTES: i64 = 512 << 20;

pub struct TableReader {
    file: SerializedFileReader<Content>,
    content: Content,
    metadata: BTreeMap<String, String>,
}

impl TableReader {
    pub fn open(location: &Location) -> Result<Self> {
        let content = Content::open(location)?;
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
    pub fn rows(self, table: &Table, names: &[&str]) -> Result<RowReader> {
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
                columns.push(Column::new(None, of_table.kind));
                continue;
            };
            let column = schema.column(at);
            let physical = if of_table.kind == Kind::Text { Type::BYTE_ARRAY } else { Type::INT64 };
            let fits = column.physical_type() == physical
                && column.max_rep_level() == 0
                && column.max_def_level() <= 1;
            ensure!(fits, "its column {name} is of another type");
            columns.push(Column::new(Some(at), of_table.kind));
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

/// Goes from row to row.
pub struct RowReader {
    file: SerializedFileReader<Content>,
    content: Content,
    /// The next one.
    group: usize,
    /// Rows of the current group that are not in a batch yet.
    left: usize,
    /// Rows of the batch that have not been given out yet.
    in_batch: usize,
    columns: Vec<Column>,
}

struct Column {
    at: Option<usize>,
    reader: Option<ColumnReader>,
    values: Values,
    levels: Vec<i16>,
    /// The next row and value of the batch.
    row: usize,
    value: usize,
    is_optional: bool,
}

impl RowReader {
    /// False behind the last row; else the values of the next one are taken by [`RowReader::integer`]
    /// and [`RowReader::text`], each column's once.
    pub fn advance(&mut self) -> Result<bool> {
        if self.in_batch == 0 {
            while self.left == 0 {
                if self.group == self.file.num_row_groups() {
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
        for column in &mut self.columns {
            column.open(&*group)?;
        }
        Ok(())
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

impl Column {
    fn new(at: Option<usize>, kind: Kind) -> Self {
        let (values, levels) = (Values::of(kind), Vec::new());
        Self { at, reader: None, values, levels, row: 0, value: 0, is_optional: false }
    }

    /// Where its values lie in the file.
    fn range(&self, group: &dyn RowGroupReader) -> Option<Range<u64>> {
        let (start, length) = group.metadata().column(self.at?).byte_range();
        Some(start..start.saturating_add(length))
    }

    fn open(&mut self, group: &dyn RowGroupReader) -> Result<()> {
        let Some(at) = self.at else { return Ok(()) };
        let chunk = group.metadata().column(at);
        ensure!(
            (0..=MAX_COLUMN_BYTES).contains(&chunk.uncompressed_size()),
            "a column of {} bytes in one group of rows",
            chunk.uncompressed_size()
        );
        self.is_optional = chunk.column_descr().max_def_level() == 1;
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
