//! Makes a table of a segment of lines, as the sidecar does, and says what it took:
//! `cargo run --release --package tables --example transcode -- trace_h_s_000001.jsonl OUT_DIRECTORY`

use std::{fs::File, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};
use tables::lines;
use trace::{
    reader::open_content,
    segment_name::{Format, SegmentName},
};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let segment = arguments.next().context("usage: transcode SEGMENT OUT_DIRECTORY")?;
    let out = arguments.next().context("usage: transcode SEGMENT OUT_DIRECTORY")?;
    let name = segment.file_name().and_then(|name| name.to_str()).and_then(SegmentName::parse);
    let name = name.context("the file has not the name of a segment")?;
    let name = SegmentName { format: Format::Parquet, ..name };
    let (input, table) = (open_content(File::open(&segment)?)?, out.join(name.to_string()));
    let began = Instant::now();
    let finished = lines::write(input, &table, &name, || false)?;
    let (rows, bytes) = (finished.rows, finished.bytes);
    finished.publish()?;
    let ns = began.elapsed().as_nanos();
    eprintln!(
        "{}: {rows} lines, {bytes} bytes, {:.2} bytes and {} ns a line",
        table.display(),
        bytes as f64 / rows as f64,
        ns / u128::from(rows.max(1))
    );
    Ok(())
}
