//! Sends one request and reads its response, streamed or whole, into a measurement.

use tokio::time;

use super::{
    Client,
    endpoint::Endpoint,
    failure,
    stream::{EventStream, take_whole, too_long},
};
use crate::{
    error::{Phase, RequestError},
    http::{Connection, HttpError, Response},
    measurement::Measurement,
    protocol,
};

/// More than any error message; an error body is read no further.
const MAX_ERROR_BODY: usize = 64 << 10;
/// More than any answer: a server that never ends fills no memory.
pub(super) const MAX_BODY: usize = 64 << 20;

impl Client {
    /// Succeeds once the answer is complete and proven so.
    pub(super) async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &[u8],
        measurement: &mut Measurement,
    ) -> Result<Response, RequestError> {
        let mut response = self.send(endpoint, request, measurement).await?;
        measurement.take_headers(response.status, response.headers);
        self.expect_ok(&mut response).await?;
        if self.options.stream {
            read_stream(&mut response, measurement).await?;
        } else {
            let body = self.whole_body(&mut response).await?;
            let at = measurement.take_arrival(response.arrival());
            take_whole(&body, at, measurement)?;
        }
        match measurement.finish_reason() {
            Some(reason @ ("abort" | "error")) => {
                Err(RequestError::Aborted { finish_reason: reason.to_owned() })
            }
            _ => Ok(response),
        }
    }

    /// Sends the request, over a connection that waits for one if there is such, and reads the head of the response.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        request: &[u8],
        measurement: &mut Measurement,
    ) -> Result<Response, RequestError> {
        let failed = |error| failure_of(&error, Phase::Headers);
        if let Some(mut connection) = endpoint.pool.take() {
            let answer = match connection.send(request).await {
                Ok(departure) => {
                    measurement.take_departure(departure);
                    connection.receive().await
                }
                Err(error) => Err(error),
            };
            match answer {
                // The server closed the connection before it saw the request.
                Err(error) if error.is_before_answer() => measurement.take_retry(),
                answer => return answer.map_err(failed),
            }
        }
        let mut connection = self.connect(endpoint, measurement).await?;
        let departure = connection.send(request).await.map_err(failed)?;
        measurement.take_departure(departure);
        connection.receive().await.map_err(failed)
    }

    async fn connect(
        &self,
        endpoint: &Endpoint,
        measurement: &mut Measurement,
    ) -> Result<Connection, RequestError> {
        measurement.start_connecting();
        let Endpoint { target, addresses, tls, .. } = endpoint;
        let opened = Connection::open(addresses, tls.as_ref());
        let (connection, handshake) = time::timeout(self.connect_limit, opened)
            .await
            .map_err(|_| RequestError::Timeout {
                limit: self.connect_limit,
                waiting_for: Phase::Connection,
            })?
            .map_err(|error| failure::of_connect(target, &error))?;
        measurement.end_connecting(handshake);
        Ok(connection)
    }

    /// Turns any status other than 200 into an error with the server's own message.
    pub(super) async fn expect_ok(&self, response: &mut Response) -> Result<(), RequestError> {
        let status = response.status;
        if status == 200 {
            return match &response.encoding {
                None => Ok(()),
                Some(encoding) => Err(RequestError::MalformedResponse {
                    reason: format!("it is encoded as {encoding}, which was not asked for"),
                    excerpt: None,
                }),
            };
        }
        if let Some(encoding) = &response.encoding {
            let message = format!("its words are encoded as {encoding}, which was not asked for");
            return Err(RequestError::Status { status, message });
        }
        let mut body = Vec::new();
        // Words that are cut short are better than none.
        while body.len() < MAX_ERROR_BODY
            && let Ok(Some((bytes, _))) = response.piece().await
        {
            body.extend_from_slice(bytes);
        }
        Err(RequestError::Status { status, message: protocol::error_message(&body) })
    }

    pub(super) async fn whole_body(
        &self,
        response: &mut Response,
    ) -> Result<Vec<u8>, RequestError> {
        let mut body = Vec::new();
        while let Some((bytes, _)) =
            response.piece().await.map_err(|error| failure_of(&error, Phase::Body))?
        {
            body.extend_from_slice(bytes);
            if body.len() > MAX_BODY {
                return Err(RequestError::MalformedResponse { reason: too_long(), excerpt: None });
            }
        }
        Ok(body)
    }
}

async fn read_stream(
    response: &mut Response,
    measurement: &mut Measurement,
) -> Result<(), RequestError> {
    let mut stream = EventStream::default();
    loop {
        let read = response.piece().await;
        match read.map_err(|error| failure_of(&error, measurement.phase()))? {
            Some((bytes, arrival)) => {
                let at = measurement.take_arrival(arrival);
                if stream.take(bytes, at, measurement)? {
                    return Ok(());
                }
            }
            None => return stream.end(measurement.last_arrival(), measurement),
        }
    }
}

fn failure_of(error: &HttpError, waiting_for: Phase) -> RequestError {
    RequestError::Transport { waiting_for, reason: error.to_string() }
}
