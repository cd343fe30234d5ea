//! What stores do otherwise than S3 does, each by itself or with others, beside whatever fails.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{
    HeaderMap, Request, Response,
    header::{CONTENT_LENGTH, ETAG, HOST},
};
use s3s::{
    Body, S3Result,
    host::{S3Host, VirtualHost},
};

/// The host below which buckets are names, for [`Quirk::BucketInHost`]; only a proxy leads there.
pub const DOMAIN: &str = "store.invalid";

/// Where the bucket is, for [`Quirk::OtherRegion`].
pub const REGION: &str = "eu-west-3";

/// A way of its own that a store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// Requests with `x-amz-checksum-*` are refused, and no answer has one.
    NoChecksums,
    /// The bucket is taken in the host name only: `BUCKET.`[`DOMAIN`].
    BucketInHost,
    /// HEAD is answered without size, tag and checksum of the object: that it is there, and no more.
    BareHead,
    /// What is there is never replaced: another PUT of its key is refused with this status.
    WriteOnce(u16),
    /// Requests that are not signed for [`REGION`] are redirected with 307.
    OtherRegion,
    /// Only the first form of listings is known.
    OldListings,
    /// A PUT of a key with this part in it is refused with this status.
    RefusesKeys(&'static str, u16),
}

#[derive(Debug, Clone)]
pub(super) struct Quirks {
    /// Where buckets and objects are kept.
    pub(super) root: PathBuf,
    pub(super) set: Arc<Mutex<Vec<Quirk>>>,
}

/// An answer that is an error.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, headers: Vec::new() }
    }
}

impl Quirks {
    pub(super) fn all(&self) -> Vec<Quirk> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the store refuses a request, if it does.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Option<Refusal> {
        self.all().into_iter().find_map(|quirk| self.refusal_by(quirk, request))
    }

    fn refusal_by<B>(&self, quirk: Quirk, request: &Request<B>) -> Option<Refusal> {
        let headers = request.headers();
        let path = request.uri().path();
        let is_put = request.method() == "PUT";
        match quirk {
            Quirk::NoChecksums => has_checksum(headers).then(|| {
                Refusal::new(400, "InvalidArgument", "x-amz-checksum-sha256 is not known here")
            }),
            Quirk::BucketInHost => bucket_in_host(headers).is_none().then(|| {
                Refusal::new(403, "SecondLevelDomainForbidden", "name the bucket in the host")
            }),
            Quirk::WriteOnce(status) => {
                let bucket = bucket_in_host(headers).map(|bucket| format!("{bucket}/"));
                let object = bucket.unwrap_or_default() + path.trim_start_matches('/');
                (is_put && self.root.join(object).is_file())
                    .then(|| Refusal::new(status, "AccessDenied", "the object is locked"))
            }
            Quirk::OtherRegion => (!is_signed_for(headers, REGION)).then(|| Refusal {
                headers: vec![
                    ("x-amz-bucket-region", REGION.to_owned()),
                    ("location", format!("http://{REGION}.{DOMAIN}{path}")),
                ],
                ..Refusal::new(307, "TemporaryRedirect", "the bucket is elsewhere")
            }),
            Quirk::OldListings => {
                let is_new = request.uri().query().is_some_and(|query| query.contains("list-type"));
                is_new.then(|| Refusal::new(501, "NotImplemented", "list-type is not known here"))
            }
            Quirk::RefusesKeys(part, status) => (is_put && path.contains(part))
                .then(|| Refusal::new(status, "AccessDenied", "not under this key")),
            Quirk::BareHead => None,
        }
    }

    /// Takes from an answer what the store does not tell.
    pub(super) fn silence<B>(&self, is_head: bool, response: &mut Response<B>) {
        for quirk in self.all() {
            match quirk {
                Quirk::NoChecksums => remove_checksums(response.headers_mut()),
                Quirk::BareHead if is_head && response.status().is_success() => {
                    remove_checksums(response.headers_mut());
                    response.headers_mut().remove(CONTENT_LENGTH);
                    response.headers_mut().remove(ETAG);
                }
                _ => {}
            }
        }
    }
}

pub(super) fn remove_checksums(headers: &mut HeaderMap) {
    let told: Vec<_> = headers.keys().filter(|name| is_checksum(name.as_str())).cloned().collect();
    for name in told {
        headers.remove(name);
    }
}

fn has_checksum(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| is_checksum(name.as_str()))
}

fn is_checksum(name: &str) -> bool {
    name.starts_with("x-amz-checksum-") && name != "x-amz-checksum-mode"
}

fn is_signed_for(headers: &HeaderMap, region: &str) -> bool {
    let value = headers.get("authorization").and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.contains(&format!("/{region}/s3/")))
}

/// Of a request to `BUCKET.`[`DOMAIN`].
pub(super) fn bucket_in_host(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    host.strip_suffix(DOMAIN)?.strip_suffix('.')
}

/// Buckets may be named in the host, below [`DOMAIN`], whatever the quirks.
pub(super) struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let bucket = host.strip_suffix(DOMAIN).and_then(|rest| rest.strip_suffix('.'));
        let of_host = VirtualHost::new(host);
        Ok(match bucket {
            Some(bucket) => of_host.with_bucket(bucket),
            None => of_host,
        })
    }
}

/// As S3 words an error; an answer to HEAD has no body.
pub(super) fn error_response(
    Refusal { status, code, message, headers }: Refusal,
    is_head: bool,
) -> anyhow::Result<Response<Body>> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut builder = Response::builder().status(status).header("content-type", "application/xml");
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    Ok(builder.body(if is_head { Body::empty() } else { Body::from(text) })?)
}
