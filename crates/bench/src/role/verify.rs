//! The ceiling of an ingress: reads a delivery, verifies its signature, answers. Nothing is parsed, matched or kept.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::net::TcpListener;

use crate::payload;

/// As long as a receipt.
const ANSWER: &[u8] = br#"{"event_id":"00000000-0000-7000-8000-000000000000","task_ids":["00000000-0000-7000-8000-000000000000"],"duplicate":false}"#;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
}

pub(crate) async fn run() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    super::say(&Listening { address: listener.local_addr()? })?;
    let serve = async {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service_fn(answer));
            tokio::spawn(connection);
        }
    };
    tokio::select! {
        () = serve => Ok(()),
        dismissed = super::until_dismissed() => dismissed,
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let signature = head.headers.get("x-hub-signature-256").and_then(|value| value.to_str().ok());
    let signature = signature.and_then(|value| hex::decode(value.strip_prefix("sha256=")?).ok());
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(payload::SECRET.as_bytes()).expect("a key of any length");
    mac.update(&body);
    let verified = signature.is_some_and(|signature| mac.verify_slice(&signature).is_ok());
    let mut response = Response::new(Full::new(Bytes::from_static(if verified { ANSWER } else { b"" })));
    *response.status_mut() = if verified { StatusCode::ACCEPTED } else { StatusCode::UNAUTHORIZED };
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}
