//! An S3 server that keeps objects as files, with faults to switch on and a log of what was asked.
//!
//! Signature version 4, one pair of credentials, buckets in the path; behind a proxy also in the host.

mod faults;
mod keys;
mod log;
mod quirks;
mod service;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use s3s::service::S3ServiceBuilder;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, mpsc as channel, watch};

pub use faults::{Fault, Faults};
pub use log::Request;
pub use quirks::{DOMAIN, Quirk, REGION};

use faults::{Command, Corrupter};
use keys::Keys;
use log::Log;
use quirks::{Hosts, Quirks};
use service::Service;

pub const ACCESS_KEY: &str = "standin-access-key";
pub const SECRET_KEY: &str = "standin-secret-key";

#[derive(Debug, Clone)]
pub struct Options {
    /// Where buckets and objects are kept: `ROOT/BUCKET/KEY`, with what S3 keeps beside them in hidden files.
    pub root: PathBuf,
    /// Made if it is missing.
    pub bucket: String,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddrV4,
    pub access_key: String,
    pub secret_key: String,
}

/// A running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    bucket: String,
    faults: Faults,
    quirks: Quirks,
    keys: Keys,
    log: Log,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server with [`ACCESS_KEY`] and [`SECRET_KEY`] on a free port of 127.0.0.1.
    pub fn start(root: impl Into<PathBuf>, bucket: &str) -> Result<Self> {
        Self::start_with(Options {
            root: root.into(),
            bucket: bucket.to_owned(),
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
            access_key: ACCESS_KEY.to_owned(),
            secret_key: SECRET_KEY.to_owned(),
        })
    }

    /// The server has a thread and a runtime of its own, so that it serves callers of any kind, blocking ones included.
    pub fn start_with(options: Options) -> Result<Self> {
        let Options { root, bucket, address, access_key, secret_key } = options;
        let folder = root.join(&bucket);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the bucket {}", folder.display()))?;
        let files = s3s_fs::FileSystem::new(&root)
            .map_err(|error| anyhow::anyhow!("{error:?}"))
            .with_context(|| format!("cannot keep objects in {}", root.display()))?;

        let (set_fault, fault) = watch::channel(Fault::None);
        let mut builder = S3ServiceBuilder::new(files);
        let keys = Keys::new(&access_key, &secret_key);
        builder.set_auth(keys.clone());
        builder.set_host(Hosts);
        builder.set_access(Corrupter { fault: fault.clone() });
        let log = Log::default();
        let quirks = Quirks { root, set: Arc::default() };
        let service = Service {
            s3: builder.build(),
            fault: fault.clone(),
            quirks: quirks.clone(),
            log: log.clone(),
            wire: Mutex::default(),
        };

        let (send, commands) = channel::unbounded_channel();
        let (ready, started) = mpsc::sync_channel(1);
        let accept = Acceptor { service, set_fault, commands };
        let thread = thread::Builder::new()
            .name("standin-s3".to_owned())
            .spawn(move || accept.run(address.into(), &ready))
            .context("cannot start the thread of the S3 server")?;
        let address = started.recv().context("the S3 server ended at its start")??;
        let (faults, thread) = (Faults::new(send, fault), Some(thread));
        Ok(Self { address, bucket, faults, quirks, keys, log, thread })
    }

    /// What `AWS_ENDPOINT_URL` must be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// From now on; beside those that it has.
    pub fn add_quirk(&self, quirk: Quirk) {
        self.quirks.set.lock().unwrap_or_else(PoisonError::into_inner).push(quirk);
    }

    /// Refuses all keys but these from now on.
    pub fn set_keys(&self, access_key: &str, secret_key: &str) {
        self.keys.set(access_key, secret_key);
    }

    /// How often an object was stored in the server's own bucket: PUT requests that succeeded.
    pub fn put_count(&self, key: &str) -> usize {
        let stored = |request: &Request| {
            request.method == "PUT"
                && request.key == key
                && request.bucket == self.bucket
                && request.succeeded()
        };
        self.log.all().iter().filter(|request| stored(request)).count()
    }

    /// Every request that reached the server, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.log.all()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.faults.stop();
        if let Some(thread) = self.thread.take() {
            // A server that panicked has said so on stderr.
            drop(thread.join());
        }
    }
}

/// Owns the listening socket, and so the faults that concern it.
struct Acceptor {
    service: Service,
    set_fault: watch::Sender<Fault>,
    commands: channel::UnboundedReceiver<Command>,
}

impl Acceptor {
    fn run(self, address: SocketAddr, ready: &mpsc::SyncSender<Result<SocketAddr>>) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("standin-s3")
            .enable_all()
            .build()
            .context("cannot start the runtime of the S3 server");
        let outcome = runtime.and_then(|runtime| {
            let (listener, address) = runtime.block_on(async {
                let listener = bind(address)?
                    .listen(1024)
                    .with_context(|| format!("cannot listen on {address}"))?;
                let address =
                    listener.local_addr().context("cannot read the port of the S3 server")?;
                anyhow::Ok((listener, address))
            })?;
            Ok((runtime, listener, address))
        });
        match outcome {
            Ok((runtime, listener, address)) => {
                // The starter may have gone; then the command channel is closed and serving ends at once.
                drop(ready.send(Ok(address)));
                runtime.block_on(self.serve(listener, address));
                runtime.shutdown_background();
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    }

    async fn serve(mut self, listener: TcpListener, address: SocketAddr) {
        let service = Arc::new(self.service);
        // Without a listener the port refuses; a socket bound to it keeps others from taking it.
        let mut listener = Some(listener);
        let mut reserved: Option<TcpSocket> = None;
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = self.commands.recv() => {
                    let Some(Command { fault, done }) = command else { return };
                    if fault == Fault::Refuse {
                        listener = None;
                        reserved = reserved.or_else(|| bind(address).ok());
                    } else if listener.is_none() {
                        let socket = reserved.take().map_or_else(|| bind(address), Ok);
                        listener = socket.and_then(|socket| Ok(socket.listen(1024)?)).ok();
                    }
                    self.set_fault.send_replace(fault);
                    // Nobody waits any more: nothing to tell.
                    let _ = done.send(listener.is_some() != (fault == Fault::Refuse));
                }
                connection = accepted => {
                    if let Ok((stream, _)) = connection {
                        tokio::spawn(converse(stream, Arc::clone(&service)));
                    }
                }
            }
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4().context("cannot make a socket")?;
    // Connections of an earlier listener may linger.
    socket.set_reuseaddr(true).context("cannot share the port with lingering connections")?;
    socket
        .bind(address)
        .with_context(|| format!("cannot bind to {address}: is another server running there?"))?;
    Ok(socket)
}

/// Serves one connection until either side ends it, or the server begins to refuse.
async fn converse(stream: TcpStream, service: Arc<Service>) {
    let mut fault = service.fault.clone();
    let answer = |request| {
        let service = Arc::clone(&service);
        async move { service.answer(request).await }
    };
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
    tokio::select! {
        // An error here is a client that went away, or a connection that was to be cut.
        _ = connection => {}
        _ = fault.wait_for(|fault| *fault == Fault::Refuse) => {}
    }
}
