//! One connection of a browser, from its first request to its last.

use super::rewound::Rewound;
use super::routes::respond;
use super::site::Site;
use super::steady::Steady;
use crate::limits::{WEB_HEAD_BYTES_MAX, WEB_SILENCE_MAX};
use crate::transport::{Guest, GuestPlace};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsAcceptor;

/// Who asks, and over which connection.
#[derive(Debug)]
pub(super) struct Caller {
    /// Where they are.
    pub(super) peer: SocketAddr,
    /// Where they reached this host.
    pub(super) local: SocketAddr,
    /// Whether they came over TLS, or it is not spoken here at all.
    pub(super) may_ask: bool,
    /// Given up once they have shown that they know the room.
    place: Mutex<Option<GuestPlace>>,
    /// Held from then on.
    seat: Mutex<Option<super::site::Seat>>,
}

impl Caller {
    /// Whether they have shown that they know the room.
    pub(super) fn is_known(&self) -> bool {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// They have shown it. False where too many others are here already.
    pub(super) fn let_in(&self, site: &Arc<Site>) -> bool {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_none() {
            return true;
        }
        let Some(seat) = site.seat(self.peer.ip()) else { return false };
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat);
        place.take();
        true
    }
}

/// Serves a connection until it or the run ends.
pub(super) async fn attend(guest: Guest, site: Arc<Site>, mut closing: watch::Receiver<bool>) {
    let Guest { socket, hello, peer, deadline, place } = guest;
    let Ok(local) = socket.local_addr() else { return };
    let prepared = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
    let Ok(stream) = prepared.and_then(|()| TcpStream::from_std(socket)) else { return };
    let deadline = Instant::from_std(deadline);
    let may_ask = site.certificate.is_some() == hello.is_some();
    let caller = Caller { peer, local, may_ask, place: Mutex::new(Some(place)), seat: Mutex::default() };
    let caller = Arc::new(caller);
    match (hello, &site.certificate) {
        (None, _) => converse(stream, &site, &caller, deadline, closing).await,
        (Some(hello), Some(certificate)) => {
            let acceptor = TlsAcceptor::from(Arc::clone(&certificate.config));
            let shaking = async {
                // A refusal that cannot be written at once would not be written at all.
                stream.writable().await?;
                acceptor.accept(Rewound::new(hello, stream)).await
            };
            let shaken = tokio::select! {
                shaken = timeout_at(deadline, shaking) => shaken,
                _ = closing.changed() => return,
            };
            // One that breaks off, as where its user does not like the certificate, comes again.
            if let Ok(Ok(stream)) = shaken {
                converse(stream, &site, &caller, deadline, closing).await;
            }
        }
        // Nobody said that they would be served.
        (Some(_), None) => {}
    }
}

/// Answers requests until the connection or the run ends.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    site: &Arc<Site>,
    caller: &Arc<Caller>,
    deadline: Instant,
    mut closing: watch::Receiver<bool>,
) {
    let service = service_fn(|request| respond(Arc::clone(site), Arc::clone(caller), request));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(WEB_SILENCE_MAX)
            .max_buf_size(WEB_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Steady::new(stream, WEB_SILENCE_MAX)), service)
    );
    let (mut may_be_stranger, mut is_closing) = (true, *closing.borrow());
    if is_closing {
        return;
    }
    loop {
        tokio::select! {
            // What went wrong is between the browser and its network; it asks again.
            _ = connection.as_mut() => return,
            () = sleep_until(deadline), if may_be_stranger => {
                if !caller.is_known() {
                    return;
                }
                may_be_stranger = false;
            }
            _ = closing.changed(), if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
