//! One request: logged, spoiled if a fault is set, else answered by s3s.

use std::time::Duration;

use anyhow::{Result, bail};
use hyper::body::{Body as _, Bytes, Frame, Incoming};
use hyper::{Request, Response};
use s3s::Body;
use s3s::service::S3Service;
use tokio::sync::{Mutex, watch};

use super::Fault;
use super::log::Log;
use super::quirks::{Quirks, Refusal, bucket_in_host, error_response, remove_checksums};

pub(super) struct Service {
    pub(super) s3: S3Service,
    pub(super) fault: watch::Receiver<Fault>,
    pub(super) quirks: Quirks,
    pub(super) log: Log,
    /// Held by the request whose body is being read slowly.
    pub(super) wire: Mutex<()>,
}

impl Service {
    /// An error makes the connection close without an answer.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let path = request.uri().path();
        let in_host = bucket_in_host(request.headers()).map(|bucket| format!("/{bucket}{path}"));
        let number = self.log.arrived(
            request.method().as_str(),
            in_host.as_deref().unwrap_or(path),
            request.uri().query().unwrap_or_default(),
        );
        let fault = *self.fault.borrow();
        let response = match fault {
            Fault::Cut => {
                cut(request).await;
                bail!("cut");
            }
            Fault::BlackHole => {
                // Whoever waits still when the fault ends gets no answer either.
                let mut fault = self.fault.clone();
                drop(fault.wait_for(|fault| *fault != Fault::BlackHole).await);
                bail!("in the black hole");
            }
            Fault::LoseAnswer if request.method() == "PUT" => {
                let response = self.serve(request.map(Body::from)).await?;
                self.log.answered(number, response.status().as_u16());
                bail!("the answer is lost");
            }
            Fault::HoldAnswer if request.method() == "PUT" => {
                let response = self.serve(request.map(Body::from)).await?;
                self.log.answered(number, response.status().as_u16());
                let mut fault = self.fault.clone();
                drop(fault.wait_for(|fault| *fault != Fault::HoldAnswer).await);
                response
            }
            Fault::Throttle(bytes_per_second) => {
                let request = self.read_slowly(request, bytes_per_second).await?;
                self.serve(request).await?
            }
            Fault::ClockSkew => refuse(request, 403, "RequestTimeTooSkewed").await?,
            Fault::NoBucket => refuse(request, 404, "NoSuchBucket").await?,
            Fault::Status(status) => refuse(request, status, code_of(status)).await?,
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                self.serve(request.map(Body::from)).await?
            }
            Fault::None
            | Fault::Refuse
            | Fault::Corrupt
            | Fault::LoseAnswer
            | Fault::HoldAnswer => self.serve(request.map(Body::from)).await?,
        };
        self.log.answered(number, response.status().as_u16());
        Ok(response)
    }

    /// The whole request, after the time that its body takes; at once when the fault ends.
    async fn read_slowly(
        &self,
        request: Request<Incoming>,
        bytes_per_second: u32,
    ) -> Result<Request<Body>> {
        let (head, mut body) = request.into_parts();
        let mut read = Vec::new();
        while let Some(frame) = next_frame(&mut body).await {
            let Ok(data) = frame?.into_data() else { continue };
            let time = f64::from(u32::try_from(data.len())?) / f64::from(bytes_per_second);
            // One request at a time has the wire.
            let wire = self.wire.lock().await;
            let mut fault = self.fault.clone();
            let end = fault.wait_for(|fault| !matches!(fault, Fault::Throttle(_)));
            drop(tokio::time::timeout(Duration::from_secs_f64(time), end).await);
            drop(wire);
            read.extend_from_slice(&data);
        }
        Ok(Request::from_parts(head, Body::from(read)))
    }

    async fn serve(&self, request: Request<Body>) -> Result<Response<Body>> {
        let is_head = request.method() == "HEAD";
        if let Some(refusal) = self.quirks.refusal(&request) {
            return refuse_as(request, refusal).await;
        }
        let wants_checksums = request
            .headers()
            .get("x-amz-checksum-mode")
            .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"));
        let reads = matches!(request.method().as_str(), "GET" | "HEAD");
        let mut response =
            self.s3.call(request).await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        // s3s always tells what it knows; S3 tells it to those who ask.
        if reads && !wants_checksums {
            remove_checksums(response.headers_mut());
        }
        self.quirks.silence(is_head, &mut response);
        Ok(response)
    }
}

/// Reads a part of the body, so that the client is in the middle of its request.
async fn cut(request: Request<Incoming>) {
    drop(next_frame(&mut request.into_body()).await);
}

async fn next_frame(body: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await
}

fn code_of(status: u16) -> &'static str {
    match status {
        403 => "AccessDenied",
        404 => "NoSuchKey",
        503 => "SlowDown",
        _ => "InternalError",
    }
}

async fn refuse(
    request: Request<Incoming>,
    status: u16,
    code: &'static str,
) -> Result<Response<Body>> {
    let refusal = Refusal { status, code, message: "a fault is set", headers: Vec::new() };
    refuse_as(request.map(Body::from), refusal).await
}

/// The body is read first: a client that is still sending would see a broken connection instead of the status.
async fn refuse_as(request: Request<Body>, refusal: Refusal) -> Result<Response<Body>> {
    let is_head = request.method() == "HEAD";
    drop(request.into_body().store_all_limited(usize::MAX).await);
    error_response(refusal, is_head)
}
