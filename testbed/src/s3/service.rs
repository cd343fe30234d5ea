//! One request: logged, spoiled if a fault is set, else answered by s3s.

use anyhow::{Result, bail};
use hyper::body::Incoming;
use hyper::{Request, Response};
use s3s::Body;
use s3s::service::S3Service;
use tokio::sync::watch;

use super::Fault;
use super::log::Log;

pub(super) struct Service {
    pub(super) s3: S3Service,
    pub(super) fault: watch::Receiver<Fault>,
    pub(super) log: Log,
}

impl Service {
    /// An error makes the connection close without an answer.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let number = self.log.arrived(
            request.method().as_str(),
            request.uri().path(),
            request.uri().query().unwrap_or_default(),
        );
        let fault = *self.fault.borrow();
        let response = match fault {
            Fault::Cut => {
                cut(request).await;
                bail!("cut");
            }
            Fault::Status(status) => refuse_politely(request, status).await?,
            Fault::Slow(delay) => {
                tokio::time::sleep(delay).await;
                self.serve(request).await?
            }
            Fault::None | Fault::Refuse | Fault::Corrupt => self.serve(request).await?,
        };
        self.log.answered(number, response.status().as_u16());
        Ok(response)
    }

    async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let wants_checksums = request
            .headers()
            .get("x-amz-checksum-mode")
            .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"));
        let reads = matches!(request.method().as_str(), "GET" | "HEAD");
        let mut response = self
            .s3
            .call(request.map(Body::from))
            .await
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        // s3s always tells what it knows; S3 tells it to those who ask.
        if reads && !wants_checksums {
            let told: Vec<_> = response
                .headers()
                .keys()
                .filter(|name| name.as_str().starts_with("x-amz-checksum-"))
                .cloned()
                .collect();
            for name in told {
                response.headers_mut().remove(name);
            }
        }
        Ok(response)
    }
}

/// Reads a part of the body, so that the client is in the middle of its request.
async fn cut(request: Request<Incoming>) {
    let mut body = request.into_body();
    let frame = std::future::poll_fn(|context| {
        hyper::body::Body::poll_frame(std::pin::Pin::new(&mut body), context)
    });
    drop(frame.await);
}

/// The body is read first: a client that is still sending would see a broken connection instead of the status.
async fn refuse_politely(request: Request<Incoming>, status: u16) -> Result<Response<Body>> {
    let head = request.method() == "HEAD";
    drop(Body::from(request.into_body()).store_all_limited(usize::MAX).await);
    let code = match status {
        403 => "AccessDenied",
        404 => "NoSuchKey",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>a fault is set</Message></Error>"
    );
    let body = if head { Body::empty() } else { Body::from(text) };
    Ok(Response::builder().status(status).header("content-type", "application/xml").body(body)?)
}
