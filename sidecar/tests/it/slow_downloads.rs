//! A store that sends a few bytes at a time: heard out if it comes to an end, given up if it never does.
//!
//! Store and download share a clock that goes on only while both wait, so hours take no time.

use std::{convert::Infallible, time::Duration};

use store::{ATTEMPTS, FetchError, Object};
use tempfile::TempDir;
use testbed::s3::{ACCESS_KEY, SECRET_KEY};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep},
};

use crate::{command::BUCKET, store::bucket_at};

const KEY: &str = "k3s-vllm/a.jsonl";

/// So many bytes at a time, with a pause behind each piece.
#[derive(Clone, Copy)]
struct Pace {
    bytes: usize,
    pause: Duration,
}

/// Serves one object; tells from which byte each request wants it.
async fn trickling(content: &'static [u8], pace: Pace) -> (String, UnboundedReceiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The client gives up amid an answer.
            tokio::spawn(serve(stream, content, pace, tell.clone()));
        }
    });
    (endpoint, asked)
}

async fn serve(
    mut stream: TcpStream,
    content: &[u8],
    pace: Pace,
    tell: UnboundedSender<usize>,
) -> std::io::Result<Infallible> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let range = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
        let start = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        tell.send(start).unwrap();
        let (status, rest) = (if start == 0 { 200 } else { 206 }, &content[start..]);
        let (last, all) = (content.len() - 1, content.len());
        let answer = format!(
            "HTTP/1.1 {status} Slow\r\nETag: \"v1\"\r\nContent-Length: {}\r\n\
             Content-Range: bytes {start}-{last}/{all}\r\n\r\n",
            rest.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        for piece in rest.chunks(pace.bytes) {
            stream.write_all(piece).await?;
            sleep(pace.pause).await;
        }
    }
}

fn object(bytes: usize) -> Object {
    Object { key: KEY.to_owned(), bytes: bytes as u64, etag: None }
}

#[tokio::test(start_paused = true)]
async fn a_download_that_trickles_for_ever_is_given_up_in_bounded_time_and_says_why() {
    static CONTENT: [u8; 10_000] = [b'x'; 10_000];
    // Never so long a pause that the transfer would count as one that stands still.
    let pace = Pace { bytes: 1, pause: Duration::from_secs(4) };
    let (endpoint, mut asked) = trickling(&CONTENT, pace).await;
    let bucket = bucket_at(&endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.jsonl");
    let began = Instant::now();
    let error = bucket.fetch(&object(CONTENT.len()), &path, ATTEMPTS).await.unwrap_err();
    let FetchError::Transfer(error) = error else { panic!("{error:?}") };
    let text = format!("{error:#}");
    assert!(text.contains("the store, or the network to it, is too slow"), "{text}");
    assert!(text.contains("of 10000 bytes"), "{text}");
    // Of the clock of the test. To the end it would have been eleven hours.
    let taken = began.elapsed();
    assert!((240..400).contains(&taken.as_secs()), "{taken:?}");
    assert!(!path.exists(), "no part is taken for the whole");
    let mut starts = Vec::new();
    while let Ok(start) = asked.try_recv() {
        starts.push(start);
    }
    assert_eq!(starts.len(), ATTEMPTS);
    assert!(starts.is_sorted_by(|before, next| before < next), "what has come is kept: {starts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_download_that_comes_to_an_end_is_heard_out_in_one_transfer() {
    static CONTENT: [u8; 1_000_000] = [b'x'; 1_000_000];
    // A quarter of an hour.
    let pace = Pace { bytes: 4400, pause: Duration::from_secs(4) };
    let (endpoint, mut asked) = trickling(&CONTENT, pace).await;
    let bucket = bucket_at(&endpoint, BUCKET, (ACCESS_KEY, SECRET_KEY)).await;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a.jsonl");
    let began = Instant::now();
    assert!(bucket.fetch(&object(CONTENT.len()), &path, ATTEMPTS).await.unwrap());
    assert!(began.elapsed() > Duration::from_secs(900), "{:?}", began.elapsed());
    assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
    assert_eq!((asked.recv().await, asked.try_recv().ok()), (Some(0), None));
}
