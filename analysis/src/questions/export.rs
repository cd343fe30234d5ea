//! `export`: the run as Parquet tables, for DuckDB, Spark, Athena and others.
//!
//! Lines become rows as they come; a table is under its name once all tables of the run are whole.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use parquet::data_type::ByteArray;
use tables::{
    schema,
    texts::Texts,
    write::{Background, Finished, TableFile},
};
use trace::{
    call_view::from_milliseconds,
    line::{Address, META_TYPE, Meta, MetaLine},
    segment_name::SegmentName,
};

use crate::{
    answer::{Answer, Column, Table, Unit},
    context::{
        Context,
        function::{Hasher, PerFunction},
        process::Process,
    },
    gap::{Cause, Gap},
    grade::Grade,
    input::exported,
    question::{Call, Question},
};

/// As Hive, Spark, Athena and DuckDB call a partition of which nothing is known: `NULL`.
const NO_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// Names of kernels that are kept to be used again.
const MAX_KERNELS: usize = 16_384;

/// Kernels of graphs by which a graph is known again; beyond them each definition is another graph.
const MAX_GRAPH_NODES: usize = 1 << 22;

pub struct Export {
    directory: PathBuf,
    tables: Option<Tables>,
    /// Nothing is written any more.
    failure: Option<anyhow::Error>,
    texts: Texts<Hasher>,
    functions: PerFunction<Option<ByteArray>>,
    processes: Vec<Option<OfProcess>>,
    kernels: HashMap<u32, Option<ByteArray>, Hasher>,
    graphs: Graphs,
}

/// Text of a process in its call lines.
#[derive(Clone, Default)]
struct OfProcess {
    role: Option<ByteArray>,
    ranks: Option<ByteArray>,
}

/// The files of the run.
struct Tables {
    run: ByteArray,
    place: Place,
    calls: Background,
    meta: TableFile,
    graphs: TableFile,
}

/// Where the files of a run lie.
struct Place {
    directory: PathBuf,
    /// `date=2026-11-24/host=gpu-node`.
    partition: PathBuf,
    file: String,
    metadata: Vec<(&'static str, String)>,
}

impl Place {
    fn of(directory: &Path, context: &Context) -> Self {
        let run = context.run.rsplit_once('_').filter(|(_, start)| date(start).is_some());
        let opening = context.opening.as_ref();
        let host = run.map(|(host, _)| host).or(opening.map(|opening| &opening.host[..]));
        let date = run.and_then(|(_, start)| date(start)).or_else(|| {
            let start = context.time.unix_ns(0)?;
            let start = jiff::Timestamp::from_nanosecond(start.into()).ok()?;
            Some(start.strftime("%Y-%m-%d").to_string())
        });
        let partition = format!(
            "date={}/host={}",
            date.as_deref().unwrap_or(NO_PARTITION),
            host.map_or_else(|| NO_PARTITION.to_owned(), plain)
        );
        let export = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let metadata = vec![
            (schema::VERSION_KEY, schema::SCHEMA_VERSION.to_string()),
            (schema::RUN_KEY, context.run.clone()),
            (schema::EXPORT_KEY, export.to_string()),
        ];
        let file = format!("{}.parquet", plain(&context.run));
        Self { directory: directory.to_owned(), partition: partition.into(), file, metadata }
    }

    fn create(&self, table: &schema::Table) -> Result<TableFile> {
        let path = self.directory.join(table.name).join(&self.partition).join(&self.file);
        let mut metadata = self.metadata.clone();
        metadata.push((schema::TABLE_KEY, table.name.to_owned()));
        TableFile::create(table, &path, &metadata)
    }
}

/// `2026-11-24` of `20261124T042800.642Z`.
fn date(start: &str) -> Option<String> {
    let (date, _) = start.split_once('T')?;
    let is_date = date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit());
    is_date.then(|| format!("{}-{}-{}", &date[..4], &date[4..6], &date[6..]))
}

/// For a path, whatever the text is.
fn plain(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let text: String = text.chars().take(200).map(|c| if is_plain(c) { c } else { '-' }).collect();
    if text.starts_with('.') { format!("-{text}") } else { text }
}

impl Export {
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            tables: None,
            failure: None,
            texts: Texts::default(),
            functions: PerFunction::default(),
            processes: Vec::new(),
            kernels: HashMap::default(),
            graphs: Graphs::default(),
        }
    }

    /// Does something with the files, unless that has failed before.
    fn with_tables(
        &mut self,
        context: &Context,
        work: impl FnOnce(&mut Self, &mut Tables) -> Result<()>,
    ) {
        if self.failure.is_some() {
            return;
        }
        let tables = match self.tables.take() {
            Some(tables) => Ok(tables),
            None => Tables::create(&self.directory, context),
        };
        let result = tables.and_then(|mut tables| {
            work(self, &mut tables)?;
            self.tables = Some(tables);
            Ok(())
        });
        self.failure = result.err();
    }

    fn write_call(
        &mut self,
        call: &Call<'_>,
        context: &Context,
        tables: &mut Tables,
    ) -> Result<()> {
        let Call { line, function, process } = call;
        let text = |texts: &mut Texts<Hasher>, text: Option<&str>| text.map(|text| texts.of(text));
        let func =
            self.functions.of(*function).get_or_insert_with(|| ByteArray::from(line.func)).clone();
        let parent = match line.parent {
            None => None,
            Some(parent) => {
                let id = context.functions.find(parent);
                let known = id.and_then(|id| self.functions.get(id)?.clone());
                Some(known.unwrap_or_else(|| self.texts.of(parent)))
            }
        };
        if process.index() >= self.processes.len() {
            self.processes.resize(process.index() + 1, None);
        }
        let OfProcess { role, ranks } = self.processes[process.index()]
            .get_or_insert_with(|| OfProcess::new(context.processes.get(*process)))
            .clone();
        let kernel_name = line.kernel.and_then(|kernel| self.kernel_name(kernel, context));
        let graph_id = line.graph_exec.and_then(|graph_exec| {
            context.graphs.kernels(line.pid, graph_exec)?;
            self.graphs.current(line.pid, graph_exec)
        });
        let [grid, block] = [line.grid, line.block]
            .map(|size| size.map_or([None; 3], |size| size.map(|size| Some(u64::from(size)))));
        let address = |address: Option<Address>| address.map(|address| address.0);
        let api = self.texts.of(line.api);
        let phase = self.texts.of(line.phase);
        let error = text(&mut self.texts, line.error);
        let kind = text(&mut self.texts, line.kind);
        tables
            .calls
            .row()
            .text(tables.run.clone())
            .unsigned(u64::from(context.place.file) + 1)
            .unsigned(context.place.line)
            .integer(line.ts_ns)
            .integer(microseconds(line.ts_ns, context))
            .unsigned(u64::from(line.pid))
            .unsigned(line.tid.map(u64::from))
            .text(role)
            .text(ranks)
            .text(api)
            .text(func)
            .text(phase)
            .unsigned(line.dur_ns)
            .unsigned(line.ret.map(u64::from))
            .text(error)
            .unsigned(address(line.result))
            .unsigned(line.depth.map(u64::from))
            .text(parent)
            .unsigned(address(line.function))
            .unsigned(line.kernel.map(u64::from))
            .text(kernel_name)
            .unsigned(grid[0])
            .unsigned(grid[1])
            .unsigned(grid[2])
            .unsigned(block[0])
            .unsigned(block[1])
            .unsigned(block[2])
            .unsigned(line.shared_bytes)
            .unsigned(line.bytes)
            .unsigned(line.count)
            .text(kind)
            .unsigned(address(line.ptr))
            .unsigned(address(line.dst))
            .unsigned(address(line.src))
            .unsigned(address(line.allocation))
            .unsigned(address(line.module))
            .unsigned(address(line.graph))
            .unsigned(address(line.graph_exec))
            .unsigned(graph_id)
            .unsigned(address(line.event))
            .unsigned(address(line.stream))
            .end();
        tables.calls.row_added(&schema::CALLS)
    }

    fn kernel_name(&mut self, kernel: u32, context: &Context) -> Option<ByteArray> {
        if self.kernels.len() > MAX_KERNELS && !self.kernels.contains_key(&kernel) {
            self.kernels.clear();
        }
        let name = || Some(ByteArray::from(context.kernels.get(kernel)?.full_name()?));
        self.kernels.entry(kernel).or_insert_with(name).clone()
    }

    fn write_meta(
        &mut self,
        line: &MetaLine,
        context: &Context,
        tables: &mut Tables,
    ) -> Result<()> {
        let ts_ns = from_milliseconds(line.ts);
        let mut json = serde_json::Map::new();
        json.insert("ts".to_owned(), line.ts.into());
        json.insert("pid".to_owned(), line.pid.into());
        json.insert("type".to_owned(), META_TYPE.into());
        json.insert("phase".to_owned(), META_TYPE.into());
        let serde_json::Value::Object(fields) = serde_json::to_value(&line.meta)? else {
            unreachable!("a meta line is an object")
        };
        json.extend(fields);
        let func = json.get("func").and_then(serde_json::Value::as_str).unwrap_or_default();
        let func = self.texts.of(func);
        tables
            .meta
            .rows
            .row()
            .text(tables.run.clone())
            .unsigned(u64::from(context.place.file) + 1)
            .unsigned(context.place.line)
            .integer(ts_ns)
            .integer(microseconds(ts_ns, context))
            .unsigned(u64::from(line.pid))
            .text(func)
            .text(ByteArray::from(serde_json::to_vec(&json)?))
            .end();
        tables.meta.row_added()?;
        match &line.meta {
            Meta::Kernel(kernel) => {
                self.kernels.remove(&kernel.id);
            }
            Meta::Process(_) => {
                if let Some(id) = context.processes.find(line.pid)
                    && let Some(process) = self.processes.get_mut(id.index())
                {
                    *process = None;
                }
            }
            Meta::Graph(graph) => {
                if let Some(id) = self.graphs.define(line.pid, graph) {
                    self.write_graph(id, &graph.kernels, context, tables)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn write_graph(
        &mut self,
        id: u64,
        kernels: &[u32],
        context: &Context,
        tables: &mut Tables,
    ) -> Result<()> {
        for (node, &kernel) in (0..).zip(kernels) {
            let name = self.kernel_name(kernel, context);
            tables
                .graphs
                .rows
                .row()
                .text(tables.run.clone())
                .unsigned(id)
                .integer(node)
                .unsigned(u64::from(kernel))
                .text(name)
                .end();
            tables.graphs.row_added()?;
        }
        Ok(())
    }

    fn finish_tables(
        &mut self,
        context: &Context,
    ) -> Result<Vec<(PathBuf, &'static str, u64, u64)>> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let tables = match self.tables.take() {
            Some(tables) => tables,
            None => Tables::create(&self.directory, context)?,
        };
        let Tables { run, place, calls, meta, graphs } = tables;
        let mut calls = calls.end()?;
        calls.tell(schema::SEGMENTS_KEY, segments(context)?);
        calls.tell(schema::GAPS_KEY, hidden_gaps(context)?);
        // The calls come last: where they are, all the rest is.
        let files = [
            (&schema::META, meta.finish()?),
            (&schema::GRAPHS, graphs.finish()?),
            (&schema::KERNELS, kernels(&place, &run, context)?),
            (&schema::PROCESSES, processes(&place, &run, context)?),
            (&schema::FUNCTIONS, functions(&place, &run, context)?),
            (&schema::GAPS, gaps(&place, &run, context)?),
            (&schema::RUNS, runs(&place, &run, context)?),
            (&schema::CALLS, calls.finish()?),
        ];
        files
            .into_iter()
            .map(|(table, file)| {
                let Finished { rows, bytes, .. } = file;
                Ok((file.publish()?, table.name, rows, bytes))
            })
            .collect()
    }
}

impl Question for Export {
    fn call(&mut self, call: &Call<'_>, context: &Context) {
        self.with_tables(context, |export, tables| export.write_call(call, context, tables));
    }

    fn meta(&mut self, line: &MetaLine, context: &Context) {
        self.with_tables(context, |export, tables| export.write_meta(line, context, tables));
    }

    fn finish(mut self: Box<Self>, context: &Context) -> Answer {
        let mut answer = Answer::new("export");
        let files = self.finish_tables(context).with_context(|| format!("run {}", context.run));
        let files = match files {
            Ok(files) => files,
            Err(error) => {
                answer.failure = Some(format!("{error:#}"));
                return answer;
            }
        };
        let mut table = Table::new(
            "files",
            "Files",
            vec![
                Column::new("table", "table", Unit::None),
                Column::new("rows", "rows", Unit::Count),
                Column::new("bytes", "size", Unit::Bytes),
                Column::new("path", "path", Unit::None),
            ],
        );
        let bytes: u64 = files.iter().map(|(.., bytes)| bytes).sum();
        for (path, name, rows, bytes) in files {
            let path = path.display().to_string();
            table.rows.push(vec![name.into(), rows.into(), bytes.into(), path.into()]);
        }
        let version = u64::from(schema::SCHEMA_VERSION);
        answer.figure("schema_version", "schema version", Unit::None, version, Grade::Exact);
        answer.figure("bytes", "size", Unit::Bytes, bytes, Grade::Exact);
        answer.tables.push(table);
        if !context.gaps.is_empty() {
            answer.notes.push(
                "the trace is not whole: the tables gaps and functions say what is missing, and of \
                 which count what is known"
                    .to_owned(),
            );
        }
        answer
    }
}

impl Tables {
    fn create(directory: &Path, context: &Context) -> Result<Self> {
        let place = Place::of(directory, context);
        Ok(Self {
            run: ByteArray::from(&context.run[..]),
            calls: Background::new(&schema::CALLS, place.create(&schema::CALLS)?),
            meta: place.create(&schema::META)?,
            graphs: place.create(&schema::GRAPHS)?,
            place,
        })
    }
}

impl OfProcess {
    fn new(process: &Process) -> Self {
        let ranks = ranks(process).map(|ranks| ByteArray::from(&ranks[..]));
        Self { role: process.role.as_deref().map(ByteArray::from), ranks }
    }
}

/// `tp1`; of several kinds `pp0 tp1`.
fn ranks(process: &Process) -> Option<String> {
    let ranks: Vec<String> =
        process.ranks.iter().map(|(kind, rank)| format!("{kind}{rank}")).collect();
    (!ranks.is_empty()).then(|| ranks.join(" "))
}

fn microseconds(ts_ns: i64, context: &Context) -> Option<i64> {
    context.time.unix_ns(ts_ns).map(|ns| ns.div_euclid(1000))
}

/// Graphs with the same kernels have the same number.
#[derive(Default)]
struct Graphs {
    by_kernels: HashMap<Box<[u32]>, u64, Hasher>,
    nodes: usize,
    latest: u64,
    current: HashMap<(u32, u64), u64, Hasher>,
}

impl Graphs {
    /// The number of one whose kernels are not written yet.
    fn define(&mut self, pid: u32, graph: &trace::line::Graph) -> Option<u64> {
        let known = self.by_kernels.get(&graph.kernels[..]).copied();
        let id = known.unwrap_or(self.latest + 1);
        // As many as the context keeps; it tells which of them still hold.
        if self.current.len() < crate::context::graph::MAX_GRAPHS {
            self.current.insert((pid, graph.graph_exec.0), id);
        }
        if known.is_some() {
            return None;
        }
        self.latest = id;
        self.nodes += graph.kernels.len();
        if self.nodes <= MAX_GRAPH_NODES {
            self.by_kernels.insert(graph.kernels.as_slice().into(), id);
        }
        Some(id)
    }

    fn current(&self, pid: u32, graph_exec: Address) -> Option<u64> {
        self.current.get(&(pid, graph_exec.0)).copied()
    }
}

/// What was read, for who reads the tables back.
fn segments(context: &Context) -> Result<String> {
    let segments: Vec<_> = context
        .files
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            let sequence = SegmentName::parse(&name).map(|name| name.sequence);
            exported::Segment { file: name.into_owned(), sequence }
        })
        .collect();
    Ok(serde_json::to_string(&segments)?)
}

/// Gaps that who reads the rows back cannot find in them.
fn hidden_gaps(context: &Context) -> Result<String> {
    let is_hidden = |gap: &&Gap| {
        matches!(
            gap.cause,
            Cause::MissingSegments { .. }
                | Cause::Unreadable { .. }
                | Cause::Altered { .. }
                | Cause::NotListed { .. }
                | Cause::BadLines { .. }
                | Cause::Duplicate { .. }
                | Cause::OtherRun { .. }
                | Cause::Repeated { .. }
        )
    };
    let gaps: Vec<&Gap> = context.gaps.iter().filter(is_hidden).collect();
    Ok(serde_json::to_string(&gaps)?)
}

fn kernels(place: &Place, run: &ByteArray, context: &Context) -> Result<Finished> {
    let mut file = place.create(&schema::KERNELS)?;
    for (id, kernel) in context.kernels.sorted() {
        file.rows
            .row()
            .text(run.clone())
            .unsigned(u64::from(id))
            .string(kernel.name.as_deref())
            .string(kernel.demangled.as_deref())
            .string(kernel.reason.as_deref())
            .end();
        file.row_added()?;
    }
    file.finish()
}

fn processes(place: &Place, run: &ByteArray, context: &Context) -> Result<Finished> {
    let mut file = place.create(&schema::PROCESSES)?;
    for (_, process) in context.processes.iter() {
        file.rows
            .row()
            .text(run.clone())
            .unsigned(u64::from(process.pid))
            .unsigned(process.parent.map(u64::from))
            .string(process.role.as_deref())
            .string(ranks(process).as_deref())
            .string(process.executable.as_deref())
            .string(process.command.as_deref())
            .end();
        file.row_added()?;
    }
    file.finish()
}

fn functions(place: &Place, run: &ByteArray, context: &Context) -> Result<Finished> {
    let mut file = place.create(&schema::FUNCTIONS)?;
    for name in context.accounting.names(&context.functions) {
        let balance = context.accounting.balance(name, &context.functions);
        let (calls, grade) = context.calls_of(name, balance.read);
        if calls == 0 && grade.is_exact() {
            continue;
        }
        let (word, low, high, windows) = match &grade {
            Grade::Exact => ("exact", Some(calls), Some(calls), None),
            Grade::ExactWithin { windows } => {
                ("exact_within", Some(calls), None, Some(&windows[..]))
            }
            Grade::Bounds { low, high } => ("bounds", low.map(whole), high.map(whole), None),
            Grade::Estimate { windows, .. } => ("estimate", None, None, windows.as_deref()),
            Grade::Unknown { .. } => ("unknown", None, None, None),
        };
        file.rows
            .row()
            .text(run.clone())
            .string(Some(name))
            .unsigned(balance.read)
            .unsigned(calls)
            .string(Some(word))
            .unsigned(low)
            .unsigned(high)
            .string(windows)
            .unsigned(balance.dropped)
            .unsigned(balance.ignored)
            .unsigned(balance.suppressed)
            .end();
        file.row_added()?;
    }
    file.finish()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn whole(count: f64) -> u64 {
    count as u64
}

fn gaps(place: &Place, run: &ByteArray, context: &Context) -> Result<Finished> {
    let mut file = place.create(&schema::GAPS)?;
    for gap in &context.gaps {
        let value = serde_json::to_value(gap)?;
        file.rows
            .row()
            .text(run.clone())
            .string(value["gap"].as_str())
            .string(gap.function.as_deref())
            .unsigned(gap.pid.map(u64::from))
            .integer(gap.from_ns)
            .integer(gap.to_ns)
            .string(Some(&gap.to_string()))
            .end();
        file.row_added()?;
    }
    file.finish()
}

fn runs(place: &Place, run: &ByteArray, context: &Context) -> Result<Finished> {
    let mut file = place.create(&schema::RUNS)?;
    let opening = context.opening.as_ref();
    file.rows
        .row()
        .text(run.clone())
        .string(opening.map(|opening| &opening.host[..]))
        .string(opening.map(|opening| &opening.sidecar_version[..]))
        .unsigned(opening.map(|opening| u64::from(opening.format_version)))
        .integer(microseconds(0, context))
        .integer(context.time.first_ns)
        .integer(context.time.last_ns)
        .unsigned(context.calls)
        .unsigned(context.meta_lines.values().sum::<u64>())
        .unsigned(context.gaps.len() as u64)
        .end();
    file.row_added()?;
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_no_more_than_they_should() {
        assert_eq!(date("20261124T042800.642Z").as_deref(), Some("2026-11-24"));
        for start in ["", "T", "2026112T0", "2026112xT0", "éééé5678T0"] {
            assert_eq!(date(start), None, "{start:?}");
        }
        assert_eq!(plain("../a b/\u{e9}=c"), "-..-a-b---c");
        assert!(plain(&"x".repeat(1000)).len() <= 201);
    }
}
