//! What can go wrong with a store, to be switched on and off while it runs.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use s3s::access::S3Access;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{PutObjectInput, StreamingBlob};
use s3s::{Body, S3Request, S3Result, s3_error};
use tokio::sync::{mpsc as channel, watch};

/// What the server does wrong from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Connections are refused, and those that exist are closed.
    Refuse,
    /// Each request is held for this long before it is served.
    Slow(Duration),
    /// Each request is answered with this status.
    Status(u16),
    /// The connection is closed in the middle of each request, without an answer.
    Cut,
    /// An uploaded object is stored with its first byte changed; answers and HEAD describe what was stored.
    Corrupt,
    /// Connections are taken, and nothing is read from them or answered.
    BlackHole,
    /// Uploads are stored, and their connections closed without an answer; the rest is served.
    LoseAnswer,
    /// Uploads are stored, and answered only when the fault ends; the rest is served.
    HoldAnswer,
    /// Bodies of requests are read at no more than so many bytes a second, all together.
    Throttle(u32),
    /// Requests are refused with `RequestTimeTooSkewed`, as by a store whose clock differs.
    ClockSkew,
    /// Requests are refused with `NoSuchBucket`, as before the bucket is made.
    NoBucket,
}

/// The switch. It works from blocking and asynchronous code; a fault is in force when [`Faults::set`] returns.
#[derive(Debug, Clone)]
pub struct Faults {
    commands: Option<channel::UnboundedSender<Command>>,
    fault: watch::Receiver<Fault>,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) fault: Fault,
    /// Told whether the socket is now as the fault wants it.
    pub(super) done: mpsc::SyncSender<bool>,
}

impl Faults {
    pub(super) fn new(
        commands: channel::UnboundedSender<Command>,
        fault: watch::Receiver<Fault>,
    ) -> Self {
        Self { commands: Some(commands), fault }
    }

    pub fn set(&self, fault: Fault) -> Result<()> {
        let (done, wait) = mpsc::sync_channel(1);
        let commands = self.commands.as_ref().context("the S3 server has stopped")?;
        commands.send(Command { fault, done }).ok().context("the S3 server has stopped")?;
        let as_wanted = wait.recv().context("the S3 server has stopped")?;
        ensure!(
            as_wanted,
            "cannot listen again: another program has taken the port of the S3 server"
        );
        Ok(())
    }

    pub fn clear(&self) -> Result<()> {
        self.set(Fault::None)
    }

    pub fn now(&self) -> Fault {
        *self.fault.borrow()
    }

    pub(super) fn stop(&mut self) {
        self.commands = None;
    }
}

/// Changes uploads while [`Fault::Corrupt`] is set: after the signature was checked, before anything is stored.
pub(super) struct Corrupter {
    pub(super) fault: watch::Receiver<Fault>,
}

#[async_trait]
impl S3Access for Corrupter {
    async fn put_object(&self, request: &mut S3Request<PutObjectInput>) -> S3Result<()> {
        let corrupt = *self.fault.borrow() == Fault::Corrupt;
        let Some(body) = request.input.body.take_if(|_| corrupt) else { return Ok(()) };
        let body = Body::from(body).store_all_limited(usize::MAX).await;
        let mut bytes = body.map_err(|error| s3_error!(IncompleteBody, "{error}"))?.to_vec();
        if let Some(first) = bytes.first_mut() {
            *first ^= 1;
        }
        let input = &mut request.input;
        let mut hasher = ChecksumHasher {
            crc32: input.checksum_crc32.as_ref().map(|_| Crc32::default()),
            crc32c: input.checksum_crc32c.as_ref().map(|_| Crc32c::default()),
            sha1: input.checksum_sha1.as_ref().map(|_| Sha1::default()),
            sha256: input.checksum_sha256.as_ref().map(|_| Sha256::default()),
            crc64nvme: input.checksum_crc64nvme.as_ref().map(|_| Crc64Nvme::default()),
        };
        hasher.update(&bytes);
        let checksum = hasher.finalize();
        input.checksum_crc32 = checksum.checksum_crc32;
        input.checksum_crc32c = checksum.checksum_crc32c;
        input.checksum_sha1 = checksum.checksum_sha1;
        input.checksum_sha256 = checksum.checksum_sha256;
        input.checksum_crc64nvme = checksum.checksum_crc64nvme;
        // Checksums that would come after the body describe what was sent.
        input.checksum_algorithm = None;
        input.content_md5 = None;
        request.trailing_headers = None;
        input.body = Some(StreamingBlob::from(Body::from(bytes)));
        Ok(())
    }
}
