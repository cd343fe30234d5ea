//! Writes the rows of one table into one file, a bounded number of them at a time.

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::SystemTime,
};

use anyhow::{Context as _, Result, anyhow};
use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};

use super::{
    Values,
    checksum::Checksum,
    schema::{Column, Table},
};

/// Rows that are compressed together, at most: what DuckDB gives one thread at a time.
const MAX_GROUP_ROWS: usize = 122_880;

/// Text of these rows, at most: names in what is no trace may be of any length.
const MAX_GROUP_TEXT_BYTES: usize = 32 << 20;

/// Stands behind the name until the file is whole; then no reader takes it for one of the table.
const PART_SUFFIX: &str = ".part";

/// Rows that wait to be written.
pub struct Rows {
    columns: Vec<(Column, Values, Vec<i16>)>,
    count: usize,
    text_bytes: usize,
}

impl Rows {
    fn new(table: &Table) -> Self {
        let columns =
            table.columns.iter().map(|column| (*column, Values::of(column.kind), Vec::new()));
        Self { columns: columns.collect(), count: 0, text_bytes: 0 }
    }

    /// The next row: its values are given in the order of the columns.
    pub fn row(&mut self) -> Row<'_> {
        self.count += 1;
        Row { rest: self.columns.iter_mut(), text_bytes: &mut self.text_bytes }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    fn is_full(&self) -> bool {
        self.count >= MAX_GROUP_ROWS || self.text_bytes >= MAX_GROUP_TEXT_BYTES
    }

    fn clear(&mut self) {
        self.count = 0;
        self.text_bytes = 0;
        for (_, values, levels) in &mut self.columns {
            values.clear();
            levels.clear();
        }
    }
}

pub struct Row<'a> {
    rest: std::slice::IterMut<'a, (Column, Values, Vec<i16>)>,
    text_bytes: &'a mut usize,
}

impl Row<'_> {
    /// Numbers beyond 2^63, which only handles and sizes of failing calls have, become negative.
    #[must_use]
    pub fn unsigned(self, value: impl Into<Option<u64>>) -> Self {
        self.integer(value.into().map(u64::cast_signed))
    }

    #[must_use]
    pub fn integer(mut self, value: impl Into<Option<i64>>) -> Self {
        let value = value.into();
        let (column, values, levels) = self.rest.next().expect("no more values than columns");
        if !column.is_required {
            levels.push(i16::from(value.is_some()));
        }
        match (values, value) {
            (Values::Integers(values), Some(value)) => values.push(value),
            (_, None) => debug_assert!(!column.is_required, "{}", column.name),
            (Values::Texts(_), Some(_)) => unreachable!("{} is text", column.name),
        }
        self
    }

    #[must_use]
    pub fn text(mut self, value: impl Into<Option<ByteArray>>) -> Self {
        let value = value.into();
        let (column, values, levels) = self.rest.next().expect("no more values than columns");
        if !column.is_required {
            levels.push(i16::from(value.is_some()));
        }
        match (values, value) {
            (Values::Texts(values), Some(value)) => {
                *self.text_bytes += value.len();
                values.push(value);
            }
            (_, None) => debug_assert!(!column.is_required, "{}", column.name),
            (Values::Integers(_), Some(_)) => unreachable!("{} is a number", column.name),
        }
        self
    }

    #[must_use]
    pub fn nothing(mut self) -> Self {
        let (column, _, levels) = self.rest.next().expect("no more values than columns");
        debug_assert!(!column.is_required, "{}", column.name);
        levels.push(0);
        self
    }

    #[must_use]
    pub fn string(self, value: Option<&str>) -> Self {
        self.text(value.map(ByteArray::from))
    }

    /// Every column has its value.
    pub fn end(self) {
        debug_assert_eq!(self.rest.len(), 0, "fewer values than columns");
    }
}

/// One file, under another name until [`TableFile::publish`].
pub struct TableFile {
    path: PathBuf,
    part: Part,
    writer: SerializedFileWriter<BufWriter<File>>,
    /// One for each column.
    checksums: Vec<Checksum>,
    pub rows: Rows,
    written: u64,
}

/// Goes with its owner, unless it has got its own name.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _: std::io::Result<()> = fs::remove_file(&self.0);
    }
}

/// A file that is whole, but not yet under its name.
pub struct Finished {
    path: PathBuf,
    part: Part,
    file: File,
    pub rows: u64,
    pub bytes: u64,
}

impl TableFile {
    pub fn create(table: &Table, path: &Path, metadata: &[(&str, String)]) -> Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).with_context(cannot)?;
        let mut part = path.as_os_str().to_owned();
        part.push(PART_SUFFIX);
        let part = PathBuf::from(part);
        // What an earlier attempt has left, or somebody has put there to lead elsewhere, goes.
        let _: std::io::Result<()> = fs::remove_file(&part);
        let file = File::create_new(&part).with_context(cannot)?;
        let part = Part(part);
        let schema = Arc::new(parse_message_type(&table.message())?);
        let writer =
            SerializedFileWriter::new(BufWriter::new(file), schema, properties(table, metadata))
                .with_context(cannot)?;
        let rows = Rows::new(table);
        let checksums = table.columns.iter().map(|_| Checksum::default()).collect();
        Ok(Self { path: path.to_owned(), part, writer, checksums, rows, written: 0 })
    }

    /// Writes the rows once there are enough of them.
    pub fn row_added(&mut self) -> Result<()> {
        if self.rows.is_full() { self.write_rows() } else { Ok(()) }
    }

    /// Writes the rows, as a group of their own.
    pub fn write_rows(&mut self) -> Result<()> {
        let mut rows = std::mem::replace(
            &mut self.rows,
            Rows { columns: Vec::new(), count: 0, text_bytes: 0 },
        );
        let result = self.write(&rows);
        rows.clear();
        self.rows = rows;
        result
    }

    fn write(&mut self, rows: &Rows) -> Result<()> {
        if rows.count == 0 {
            return Ok(());
        }
        let cannot = || format!("cannot write {}", self.path.display());
        let mut group = self.writer.next_row_group().with_context(cannot)?;
        for ((column, values, levels), checksum) in rows.columns.iter().zip(&mut self.checksums) {
            let mut writer = group.next_column()?.expect("the file has the same columns");
            let levels = (!column.is_required).then_some(&levels[..]);
            checksum.add(values, levels);
            match values {
                Values::Integers(values) => {
                    writer.typed::<Int64Type>().write_batch(values, levels, None)
                }
                Values::Texts(values) => {
                    writer.typed::<ByteArrayType>().write_batch(values, levels, None)
                }
            }
            .and_then(|_| writer.close())
            .with_context(cannot)?;
        }
        group.close().with_context(cannot)?;
        self.written += rows.count as u64;
        Ok(())
    }

    /// More of what stands in the file's own metadata.
    pub fn tell(&mut self, key: &str, value: String) {
        self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }

    pub fn finish(mut self) -> Result<Finished> {
        self.write_rows()?;
        for ((column, ..), checksum) in self.rows.columns.iter().zip(&self.checksums) {
            let sum = KeyValue::new(Checksum::key(column.name), checksum.text());
            self.writer.append_key_value_metadata(sum);
        }
        let Self { path, part, mut writer, written: rows, .. } = self;
        let cannot = || format!("cannot write {}", path.display());
        writer.finish().with_context(cannot)?;
        let file = writer.inner().get_ref().try_clone().with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
        let bytes = writer.bytes_written() as u64;
        Ok(Finished { path, part, file, rows, bytes })
    }
}

impl Finished {
    /// Has the file seem as old as what it was made of.
    pub fn set_modified(&self, time: SystemTime) -> Result<()> {
        let cannot = || format!("cannot set the time of {}", self.path.display());
        self.file.set_modified(time).with_context(cannot)
    }

    /// Gives the file its name; an earlier one of that name goes.
    pub fn publish(self) -> Result<PathBuf> {
        let Self { path, part, .. } = self;
        fs::rename(&part.0, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn properties(table: &Table, metadata: &[(&str, String)]) -> Arc<WriterProperties> {
    let metadata = metadata
        .iter()
        .map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone()))
        .collect();
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("cuda-trace {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(metadata));
    for column in table.columns.iter().filter(|column| column.is_distinct) {
        let path = ColumnPath::from(column.name);
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        if column.kind != super::schema::Kind::Text {
            properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Arc::new(properties.build())
}

/// A file that a thread of its own compresses and writes.
pub struct Background {
    rows: Rows,
    sender: Option<SyncSender<Rows>>,
    written: Receiver<Rows>,
    thread: Option<JoinHandle<Result<TableFile>>>,
}

impl Background {
    pub fn new(table: &Table, file: TableFile) -> Self {
        let (sender, receiver) = sync_channel::<Rows>(0);
        let (give_back, written) = sync_channel(1);
        let thread = thread::spawn(move || {
            let mut file = file;
            for mut rows in receiver {
                file.write(&rows)?;
                rows.clear();
                let _: Result<_, _> = give_back.try_send(rows);
            }
            Ok(file)
        });
        Self { rows: Rows::new(table), sender: Some(sender), written, thread: Some(thread) }
    }

    pub fn row(&mut self) -> Row<'_> {
        self.rows.row()
    }

    pub fn row_added(&mut self, table: &Table) -> Result<()> {
        if !self.rows.is_full() {
            return Ok(());
        }
        let empty = self.written.try_recv().unwrap_or_else(|_| Rows::new(table));
        let full = std::mem::replace(&mut self.rows, empty);
        match self.sender.as_ref().map(|sender| sender.send(full)) {
            Some(Ok(())) => Ok(()),
            // The thread has ended: it says why.
            _ => self.join().map(drop),
        }
    }

    /// The file, once what was given to the thread is in it.
    fn join(&mut self) -> Result<TableFile> {
        self.sender = None;
        let thread = self.thread.take().ok_or_else(|| anyhow!("writing has failed before"))?;
        thread.join().map_err(|_| anyhow!("the thread that writes the file has panicked"))?
    }

    /// The file with its last rows.
    pub fn end(mut self) -> Result<TableFile> {
        let mut file = self.join()?;
        file.write(&self.rows)?;
        Ok(file)
    }
}

/// So that what is not published is gone when the program ends.
impl Drop for Background {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _: Result<_, _> = thread.join();
        }
    }
}
