//! From what the connection and the resolver report to the errors people read.

use std::io;

use tokio_rustls::rustls::{self, CertificateError, InvalidMessage};

use crate::{error::RequestError, target::Target};

pub(super) fn of_lookup(target: &Target, error: &io::Error) -> RequestError {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    RequestError::Resolve { target: target.clone(), reason: reason.to_owned() }
}

pub(super) fn of_connect(target: &Target, error: &io::Error) -> RequestError {
    let target = target.clone();
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(cause) = cause {
        return RequestError::Tls { target, reason: of_handshake(cause) };
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => RequestError::Refused { target },
        io::ErrorKind::UnexpectedEof if target.is_tls() => {
            let reason = "the server closed the connection: perhaps what it speaks is not TLS";
            RequestError::Tls { target, reason: reason.to_owned() }
        }
        _ => RequestError::Connect { target, reason: error.to_string() },
    }
}

/// The frequent causes in plain words; the library's own for the others.
fn of_handshake(error: &rustls::Error) -> String {
    use CertificateError as Certificate;
    match error {
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "the authority that signed its certificate is not trusted".to_owned()
        }
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => "its certificate has expired".to_owned(),
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "its certificate is for another name".to_owned(),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what it speaks is not TLS".to_owned()
        }
        other => other.to_string(),
    }
}
