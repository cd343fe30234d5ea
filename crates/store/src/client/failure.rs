//! Why a request failed, in one line: the cause, the HTTP status, and what to check.

use std::{error::Error, fmt};

use anyhow::{Error as Explained, anyhow};
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError as AnySdkError},
    operation::{list_objects::ListObjectsError, list_objects_v2::ListObjectsV2Error},
};

pub(crate) type SdkError<E> = AnySdkError<E, HttpResponse>;
pub(crate) type ListError = SdkError<ListObjectsV2Error>;

pub(crate) trait Cause: ProvideErrorMetadata + Error + Send + Sync + 'static {}
impl<E: ProvideErrorMetadata + Error + Send + Sync + 'static> Cause for E {}

/// Why a file was not put, which tells whether another file would fare better.
#[derive(Debug)]
pub enum PutError {
    /// The file is at fault: it cannot be read, or not be deleted.
    File(Explained),
    /// The store, or what lies between, takes no object of this size.
    TooLarge(Explained),
    /// The store has something else under this name, and keeps it.
    Taken(Explained),
    /// The store took it, and could not be asked what it has.
    Unconfirmed(Explained),
    /// The store is at fault, or the way to it.
    Store(Explained),
}

impl PutError {
    /// Of an answer to a PUT.
    pub(crate) fn of<E: Cause>(error: &SdkError<E>, explained: Explained) -> Self {
        if status(error) == Some(TOO_LARGE) || error.code() == Some(ENTITY_TOO_LARGE) {
            Self::TooLarge(explained)
        } else {
            Self::Store(explained)
        }
    }
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::File(error)
        | Self::TooLarge(error)
        | Self::Taken(error)
        | Self::Unconfirmed(error)
        | Self::Store(error)) = self;
        write!(f, "{error:#}")
    }
}

/// Who asked, and for what.
pub(crate) struct Caller<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) store: &'a str,
    pub(crate) permission: &'a str,
}

pub(crate) const CREDENTIALS: &str = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, \
                           or ~/.aws, or the role of the instance, in this order";

const NETWORK: &str = "check S3_ENDPOINT or AWS_REGION, and the network between";

/// Codes of answers that are about the keys.
const KEY_CODES: [&str; 9] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// Of stores that take the bucket in the host name only.
const HOST_CODES: [&str; 3] =
    ["SecondLevelDomainForbidden", "VirtualHostDomainRequired", "PathStyleDomainForbidden"];

/// Stores say the code; proxies only the status.
const ENTITY_TOO_LARGE: &str = "EntityTooLarge";
const TOO_LARGE: u16 = 413;

/// The SDK's own Display says "service error", its Debug fills a screen.
pub(crate) fn explain<E: Cause>(error: &SdkError<E>, caller: &Caller<'_>) -> Explained {
    let root = root_cause(error);
    let store = caller.store;
    match error {
        AnySdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let headers = answer.raw().headers();
            let elsewhere = Elsewhere {
                region: region_of(error)
                    .or_else(|| headers.get("x-amz-bucket-region").map(str::to_owned)),
                location: headers.get("location"),
                wants_tls: answer.raw().body().bytes().is_some_and(names_https),
            };
            answered(answer.err(), status, elsewhere, caller)
        }
        AnySdkError::TimeoutError(_) => {
            anyhow!("{store} does not answer in time: {root} ({NETWORK})")
        }
        _ if is_about_credentials(error) => {
            anyhow!("no credentials for {store}: {root} ({CREDENTIALS})")
        }
        AnySdkError::DispatchFailure(_) => {
            anyhow!("cannot reach {store}: {root} ({})", advice_of_connection(&root))
        }
        AnySdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            anyhow!("{store} does not answer as S3 does: {root} (HTTP {status}; check S3_ENDPOINT)")
        }
        _ => anyhow!("the request cannot be made: {root}"),
    }
}

/// Credentials may lack the permission to ask, and yet do for what they are meant for.
pub(crate) fn is_access_denied<E: Cause>(error: &SdkError<E>) -> bool {
    error.code() == Some("AccessDenied")
}

pub(crate) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

/// The store does not answer this, whoever asks how often.
pub(crate) fn is_refusal<E: Cause>(error: &SdkError<E>) -> bool {
    matches!(status(error), Some(400..=499 | 501)) && !matches!(status(error), Some(408 | 429))
}

/// The answer is about the keys, or there are none: others may be there by now.
pub(crate) fn is_about_keys<E: Cause>(error: &SdkError<E>) -> bool {
    match error.code() {
        Some(code) => KEY_CODES.contains(&code),
        None => {
            status(error).is_none() && root_cause(error).contains("no credentials found in chain")
        }
    }
}

/// A PUT may be refused because the object is there: by a lock, or by a rule of the bucket.
pub(crate) fn may_be_there<E: Cause>(error: &SdkError<E>) -> bool {
    let is_refused = matches!(status(error), Some(400 | 403 | 405 | 409 | 412 | 423));
    let is_other = [ENTITY_TOO_LARGE, "BadDigest", "NoSuchBucket", "RequestTimeTooSkewed"];
    is_refused
        && !is_about_keys(error)
        && !error.code().is_some_and(|code| is_other.contains(&code))
}

/// The store may not know a header or a parameter of the request, whatever it says.
pub(crate) fn may_be_a_header<E: Cause>(error: &SdkError<E>) -> bool {
    const OTHER: [&str; 8] = [
        "AccessDenied",
        "AuthorizationHeaderMalformed",
        "BadDigest",
        "IllegalLocationConstraintException",
        "InvalidDigest",
        "NoSuchBucket",
        "RequestTimeTooSkewed",
        ENTITY_TOO_LARGE,
    ];
    let is_refused =
        matches!(status(error), Some(400 | 403 | 405 | 406 | 411 | 415 | 417 | 422 | 501));
    let is_other =
        error.code().is_some_and(|code| OTHER.contains(&code) || asks_for_the_host(error));
    is_refused && !is_other && !is_about_keys(error)
}

/// The store may not know the bucket by this way of naming it.
pub(crate) fn may_be_the_place<E: Cause>(error: &SdkError<E>) -> bool {
    let is_other = ["AccessDenied", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed"];
    matches!(status(error), Some(300..=499))
        && !is_about_keys(error)
        && !error.code().is_some_and(|code| is_other.contains(&code))
}

/// Where the store says that the bucket is, in an answer that refuses for that reason.
pub(crate) fn region_of<E: Cause>(error: &SdkError<E>) -> Option<String> {
    let answer = error.raw_response()?;
    let is_elsewhere = matches!(answer.status().as_u16(), 301 | 307)
        || error.code() == Some("AuthorizationHeaderMalformed");
    let of_header = || answer.headers().get("x-amz-bucket-region").map(str::to_owned);
    let of_body = || {
        let body = std::str::from_utf8(answer.body().bytes()?).ok()?;
        let (_, rest) = body.split_once("<Region>")?;
        Some(rest.split_once("</Region>")?.0.to_owned())
    };
    let region = is_elsewhere.then(|| of_header().or_else(of_body)).flatten()?;
    let is_name = !region.is_empty()
        && region.len() <= 64
        && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_name.then_some(region)
}

/// About how it was asked, not about who asked for what.
pub(crate) fn is_about_the_way<E: Cause>(error: &SdkError<E>) -> bool {
    asks_for_the_host(error) || region_of(error).is_some()
}

pub(crate) fn asks_for_the_host<E: Cause>(error: &SdkError<E>) -> bool {
    error.code().is_some_and(|code| HOST_CODES.contains(&code))
}

pub(crate) fn not_there() -> Explained {
    anyhow!("NotFound (HTTP 404): the store has taken it, and does not have it")
}

/// The old form of listings fails for the reasons of the new one.
pub(crate) fn as_new_listing(error: SdkError<ListObjectsError>) -> ListError {
    error.map_service_error(|error| ListObjectsV2Error::generic(error.meta().clone()))
}

/// By what the TLS and HTTP libraries say of the other end.
fn advice_of_connection(root: &str) -> &'static str {
    let says = |part: &str| root.contains(part);
    if says("InvalidContentType") || says("corrupt message") || says("tls handshake eof") {
        "what answers there speaks no TLS: S3_ENDPOINT or the proxy has to begin with http://"
    } else if says("CaUsedAsEndEntity") {
        "the certificate of the store is that of an authority, which it may not use itself: give it one \
         with basicConstraints CA:FALSE, for openssl req -x509: -addext \
         basicConstraints=critical,CA:FALSE"
    } else if says("UnknownIssuer") || says("BadSignature") || says("UnsupportedCertVersion") {
        "the certificate of the store is of an authority that is not known here: AWS_CA_BUNDLE or \
         SSL_CERT_FILE names the file of that authority"
    } else if says("NotValidForName") || says("certificate not valid for name") {
        "the certificate is for another host: S3_ENDPOINT has to name the host that the certificate \
         names"
    } else if says("certificate expired") || says("Expired") || says("NotValidYet") {
        "the certificate of the store is not valid now: renew it, or check the clock of this machine"
    } else if says("invalid HTTP version") || says("invalid HTTP") || says("invalid header") {
        "what answers there speaks no plain HTTP: if it speaks TLS, S3_ENDPOINT has to begin with https://"
    } else if says("tunnel") || says("proxy") || says("unsuccessful") {
        "the proxy does not let it through: check HTTPS_PROXY and HTTP_PROXY, or name the host in NO_PROXY"
    } else {
        NETWORK
    }
}

/// Where the store says that the bucket is.
struct Elsewhere<'a> {
    region: Option<String>,
    location: Option<&'a str>,
    /// A server of TLS that was asked without it says so in words of its own.
    wants_tls: bool,
}

fn names_https(body: &[u8]) -> bool {
    body[..body.len().min(2048)].windows(5).any(|part| part == b"HTTPS")
}

fn answered<E: Cause>(
    error: &E,
    status: u16,
    elsewhere: Elsewhere<'_>,
    Caller { bucket, store, permission }: &Caller<'_>,
) -> Explained {
    // The answer to a HEAD has no body, hence no code.
    let code = error.code().unwrap_or(match status {
        403 => "AccessDenied",
        404 => "NotFound",
        TOO_LARGE => ENTITY_TOO_LARGE,
        _ => "",
    });
    let message = error.message().unwrap_or_default();
    let advice = match code {
        _ if KEY_CODES.contains(&code) => CREDENTIALS.to_owned(),
        _ if HOST_CODES.contains(&code) => {
            "set S3_ADDRESSING=host, with a name and no address in S3_ENDPOINT".to_owned()
        }
        "InvalidObjectState" => {
            "it is archived: restore it with `aws s3api restore-object`, and repeat then".to_owned()
        }
        "NoSuchKey" => "it was deleted after it was listed".to_owned(),
        _ if message.contains("x-amz-checksum") => "set S3_CHECKSUMS=never".to_owned(),
        "" if status == 400 && elsewhere.wants_tls => {
            "what answers there speaks TLS: S3_ENDPOINT has to begin with https://".to_owned()
        }
        "AccessDenied" => format!("the credentials need {permission} on {bucket}"),
        "NoSuchBucket" => format!(
            "check S3_BUCKET, whether {store} is the right place, and S3_ADDRESSING if it takes the \
             bucket in the host name"
        ),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => elsewhere.advice(),
        "" if (300..400).contains(&status) => elsewhere.advice(),
        ENTITY_TOO_LARGE => {
            "lower TRACE_SEGMENT_SIZE, or raise the limit of what lies between".to_owned()
        }
        "" if status < 500 => "check S3_ENDPOINT".to_owned(),
        _ if status >= 500 => "the store is at fault: try again later".to_owned(),
        "RequestTimeTooSkewed" => "check the clock of this machine".to_owned(),
        _ => String::new(),
    };
    let cause = match (code, error.message().filter(|message| *message != code)) {
        ("", None) => "the store refuses".to_owned(),
        ("", Some(message)) => message.to_owned(),
        (code, None) => code.to_owned(),
        (code, Some(message)) => format!("{code}: {message}"),
    };
    if advice.is_empty() {
        anyhow!("{cause} (HTTP {status})")
    } else {
        anyhow!("{cause} (HTTP {status}; {advice})")
    }
}

impl Elsewhere<'_> {
    fn advice(&self) -> String {
        let region = self.region.as_deref().unwrap_or("the region of the bucket");
        match self.location.and_then(origin_of) {
            Some(origin) => {
                format!("set AWS_REGION to {region}; the store sends to {origin}, for S3_ENDPOINT")
            }
            None => format!("set AWS_REGION to {region}"),
        }
    }
}

/// Scheme and authority of a URL that may be anything.
fn origin_of(url: &str) -> Option<&str> {
    let after = url.find("://")? + 3;
    let end = url[after..].find(['/', '?', '#']).map_or(url.len(), |end| after + end);
    let origin = url.get(..end.min(200))?;
    origin.bytes().all(|byte| byte.is_ascii_graphic()).then_some(origin)
}

/// Of a text that others write, in bytes.
const MAX_CAUSE: usize = 300;

/// What is at the end of the chain says it; what is before it repeats that something failed.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let root = chain(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    let mut root = root.lines().map(str::trim).collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    root.truncate(root.floor_char_boundary(MAX_CAUSE));
    root
}

pub(crate) fn is_about_credentials(error: &dyn Error) -> bool {
    chain(error).any(|cause| cause.to_string().contains("credential"))
}

fn chain<'a>(error: &'a dyn Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tls_library_says_has_a_way_out() {
        for (root, expected) in [
            ("received corrupt message of type InvalidContentType", "begin with http://"),
            ("tls handshake eof", "speaks no TLS"),
            ("invalid peer certificate: UnknownIssuer", "AWS_CA_BUNDLE"),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                "basicConstraints=critical,CA:FALSE",
            ),
            ("invalid peer certificate: certificate not valid for name \"x\"", "another host"),
            ("invalid HTTP version parsed", "https://"),
            ("tunnel error: unsuccessful", "NO_PROXY"),
            ("Connection refused (os error 111)", "check S3_ENDPOINT or AWS_REGION"),
        ] {
            let advice = advice_of_connection(root);
            assert!(advice.contains(expected), "{root}: {advice}");
        }
    }

    #[test]
    fn only_the_origin_of_a_redirect_is_told() {
        assert_eq!(
            origin_of("https://b.s3.eu-west-3.amazonaws.com/b/key?x"),
            Some("https://b.s3.eu-west-3.amazonaws.com")
        );
        for odd in ["/relative", "", "http://a\nb/", "http://\u{e9}/"] {
            assert_eq!(origin_of(odd), None, "{odd:?}");
        }
    }
}
