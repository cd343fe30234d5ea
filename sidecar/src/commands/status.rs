//! `ebpf-cuda-tracer status`: asks the sidecar that runs here, and prints what it says.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use settings::HttpAddress;
use tokio::{net::TcpStream, time::timeout};

use crate::{
    config::Config,
    escape::{escape, escape_all, escape_json},
    reporting::{
        http::ANY_IPV6,
        status::{Status, text},
    },
};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Far more than the longest status.
const MAX_BYTES: usize = 16 << 20;

/// Prints on stdout; fails if no sidecar answers.
pub async fn run(config: &Config, as_json: bool) -> Result<()> {
    let addresses = addresses(config.local.http_address)?;
    let status = timeout(TIMEOUT, ask(&addresses))
        .await
        .map_err(|_| anyhow::anyhow!("no answer in {TIMEOUT:?}"))
        .flatten()
        .with_context(|| format!("cannot ask the sidecar on {}", addresses[0]))?;
    let out = if as_json {
        let json = serde_json::to_string_pretty(&status).context("cannot print the status")?;
        escape_json(&json) + "\n"
    } else {
        text::of(&escaped(&status)?)
    };
    io::stdout().write_all(out.as_bytes()).context("cannot print the status")
}

/// Names and command lines come from traced processes, errors from the network: none of them may
/// move the cursor.
fn escaped(status: &Status) -> Result<Status> {
    let value = serde_json::to_value(status).map(escape_all);
    value.and_then(serde_json::from_value).context("cannot print the status")
}

/// Where the sidecar of the same settings is reached; the next is for where the first is not.
fn addresses(HttpAddress(address): HttpAddress) -> Result<Vec<SocketAddr>> {
    let Some(address) = address else {
        bail!("HTTP_ADDRESS is empty: a sidecar with this setting cannot be asked");
    };
    let port = address.port();
    ensure!(
        port != 0,
        "HTTP_ADDRESS has port 0: the log of the sidecar says where it listens; pass that as \
         --http-address"
    );
    let [ipv4, ipv6] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        .map(|ip: IpAddr| SocketAddr::new(ip, port));
    Ok(match address.ip() {
        // It listens on both, or on IPv4 where there is no IPv6.
        ip if ip == ANY_IPV6 => vec![ipv6, ipv4],
        ip if ip.is_unspecified() => vec![ipv4],
        _ => vec![address],
    })
}

async fn ask(addresses: &[SocketAddr]) -> Result<Status> {
    let stream = TcpStream::connect(addresses).await.context(
        "nothing answers there: is a sidecar running, and is HTTP_ADDRESS (or --http-address) the \
         same for both?",
    )?;
    let address = stream.peer_addr().context("the connection failed")?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.context("the connection failed")?;
    // Ends with the request; its error is the request's too.
    tokio::spawn(connection);
    let request = Request::get("/status")
        .header(HOST, address.to_string())
        .body(String::new())
        .context("the request cannot be made")?;
    let answer = sender.send_request(request).await.context("what listens there is no sidecar")?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes();
    match status {
        StatusCode::OK => {}
        // It says why.
        StatusCode::FORBIDDEN if address.ip().to_canonical().is_loopback() => {
            bail!("{}", escape(String::from_utf8_lossy(&body).trim_end()))
        }
        StatusCode::FORBIDDEN => bail!(
            "it answers this on 127.0.0.1 and ::1 only: let HTTP_ADDRESS be [::]:{port}, or \
             127.0.0.1:{port}",
            port = address.port()
        ),
        other => bail!("what listens there is no sidecar: HTTP {other}"),
    }
    serde_json::from_slice(&body)
        .context("what listens there is no sidecar, or one of another version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sidecar_that_listens_everywhere_is_reached_on_this_machine() {
        for (setting, expected) in [
            ("0.0.0.0:9420", &["127.0.0.1:9420"][..]),
            ("[::]:9420", &["[::1]:9420", "127.0.0.1:9420"]),
            ("10.1.2.3:1", &["10.1.2.3:1"]),
        ] {
            let setting = HttpAddress(Some(setting.parse().unwrap()));
            let addresses = addresses(setting).unwrap();
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            assert_eq!(addresses, expected);
        }
    }
}
