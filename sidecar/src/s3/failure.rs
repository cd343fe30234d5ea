//! Why a request failed, in one line: the cause, the HTTP status, and what to check.

use std::{error::Error, fmt};

use anyhow::{Error as Explained, anyhow};
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError as AnySdkError},
};

pub(super) type SdkError<E> = AnySdkError<E, HttpResponse>;

pub(super) trait Cause: ProvideErrorMetadata + Error + Send + Sync + 'static {}
impl<E: ProvideErrorMetadata + Error + Send + Sync + 'static> Cause for E {}

/// Why a file was not put, which tells whether another file would fare better.
#[derive(Debug)]
pub enum PutError {
    /// The file is at fault: it cannot be read, or not be deleted.
    File(Explained),
    /// The store, or what lies between, takes no object like this one.
    Object(Explained),
    /// The store is, or the way to it.
    Store(Explained),
}

impl PutError {
    /// Of an answer to a PUT.
    pub(super) fn of<E: Cause>(error: &SdkError<E>, explained: Explained) -> Self {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        if status == Some(TOO_LARGE) || error.code() == Some(ENTITY_TOO_LARGE) {
            Self::Object(explained)
        } else {
            Self::Store(explained)
        }
    }
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::File(error) | Self::Object(error) | Self::Store(error)) = self;
        write!(f, "{error:#}")
    }
}

/// Who asked, and for what.
pub(super) struct Caller<'a> {
    pub(super) bucket: &'a str,
    pub(super) store: &'a str,
    pub(super) permission: &'a str,
}

pub(super) const CREDENTIALS: &str = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, \
                           or ~/.aws, or the role of the instance, in this order";

const NETWORK: &str = "check S3_ENDPOINT or AWS_REGION, and the network between";

/// Stores say the code; proxies only the status.
const ENTITY_TOO_LARGE: &str = "EntityTooLarge";
const TOO_LARGE: u16 = 413;

/// The SDK's own Display says "service error", its Debug fills a screen.
pub(super) fn explain<E: Cause>(error: &SdkError<E>, caller: &Caller<'_>) -> Explained {
    let root = root_cause(error);
    let store = caller.store;
    match error {
        AnySdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let region = answer.raw().headers().get("x-amz-bucket-region");
            answered(answer.err(), status, region, caller)
        }
        AnySdkError::TimeoutError(_) => {
            anyhow!("{store} does not answer in time: {root} ({NETWORK})")
        }
        _ if is_about_credentials(error) => {
            anyhow!("no credentials for {store}: {root} ({CREDENTIALS})")
        }
        AnySdkError::DispatchFailure(_) => {
            anyhow!("cannot reach {store}: {root} ({NETWORK})")
        }
        AnySdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            anyhow!("{store} does not answer as S3 does: {root} (HTTP {status}; check S3_ENDPOINT)")
        }
        _ => anyhow!("the request cannot be made: {root}"),
    }
}

/// Credentials may lack the permission to ask, and yet do for what they are meant for.
pub(super) fn is_access_denied<E: Cause>(error: &SdkError<E>) -> bool {
    error.code() == Some("AccessDenied")
}

fn answered<E: Cause>(
    error: &E,
    status: u16,
    region: Option<&str>,
    Caller { bucket, store, permission }: &Caller<'_>,
) -> Explained {
    // The answer to a HEAD has no body, hence no code.
    let code = error.code().unwrap_or(match status {
        403 => "AccessDenied",
        404 => "NotFound",
        TOO_LARGE => ENTITY_TOO_LARGE,
        _ => "",
    });
    let advice = match code {
        "AccessDenied" => format!("the credentials need {permission} on {bucket}"),
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "InvalidToken"
        | "ExpiredToken"
        | "NotSignedUp" => CREDENTIALS.to_owned(),
        "InvalidObjectState" => {
            "it is archived: restore it with `aws s3api restore-object`, and repeat then".to_owned()
        }
        "NoSuchKey" => "it was deleted after it was listed".to_owned(),
        "NoSuchBucket" => format!("check S3_BUCKET, and whether {store} is the right place"),
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            let region = region.unwrap_or("the region of the bucket");
            format!("set AWS_REGION to {region}")
        }
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

/// What is at the end of the chain says it; what is before it repeats that something failed.
pub(super) fn root_cause(error: &dyn Error) -> String {
    let root = chain(error).last().map_or_else(|| error.to_string(), ToString::to_string);
    root.lines().map(str::trim).collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

pub(super) fn is_about_credentials(error: &dyn Error) -> bool {
    chain(error).any(|cause| cause.to_string().contains("credential"))
}

fn chain<'a>(error: &'a dyn Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}
