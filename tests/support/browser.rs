//! A browser without a page: requests of HTTP by hand, and sealed calls.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses the part that it needs")]
#![allow(clippy::needless_pass_by_value, reason = "a call is written where it is made")]

use haul::sealing::{NONCE_BYTES, SealingKeys, TAG_BYTES};
use haul::secret::Link;
use haul::transport::random_bytes;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the connection ended before all of the body was there.
    pub is_cut: bool,
}

/// Speaks to the host of a link.
pub struct Browser {
    pub link: Link,
    pub keys: SealingKeys,
    pub session: Option<String>,
    /// How requests get there.
    pub send: fn(SocketAddr, &[u8]) -> Option<Reply>,
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Browser {
    pub fn new(link: &Link) -> Self {
        let keys = SealingKeys::derive(link.key().as_bytes(), link.room().as_bytes());
        Self { link: link.clone(), keys, session: None, send: exchange }
    }

    pub fn address(&self) -> SocketAddr {
        self.link.addresses()[0]
    }

    /// Sends a request as it is, and reads one answer. Nothing where the connection ends without one.
    pub fn raw(&self, request: &[u8]) -> Option<Reply> {
        (self.send)(self.address(), request)
    }

    /// A request without a body, with these further headers.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let further: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let further = further.concat();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{further}\r\n", self.address());
        self.raw(request.as_bytes()).unwrap()
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.request("GET", path, headers)
    }

    /// The path of the page.
    pub fn page(&self) -> String {
        format!("/{}", self.link.room())
    }

    /// Says hello, and keeps the session.
    pub fn hello(&mut self) -> Value {
        let (header, _) = self.call(&json!({ "op": "hello", "name": "test" }), &[]).unwrap();
        self.session = header["session"].as_str().map(str::to_owned);
        header
    }

    /// A call that is answered well: its header and payload.
    pub fn ask(&self, header: Value) -> (Value, Vec<u8>) {
        let (header, payload) = self.call(&header, &[]).unwrap();
        assert_eq!(header["ok"], true, "{header}");
        (header, payload)
    }

    /// A call that is refused, and the code of that.
    pub fn refused(&self, header: Value) -> String {
        let (header, _) = self.call(&header, &[]).unwrap();
        assert_eq!(header["ok"], false, "{header}");
        header["error"].as_str().unwrap().to_owned()
    }

    /// A call, sealed, and its answer, opened; or what came instead of one.
    pub fn call(&self, header: &Value, payload: &[u8]) -> Result<(Value, Vec<u8>), Reply> {
        self.exchange(&self.sealed(&text(&self.headed(header), payload)))
    }

    fn headed(&self, header: &Value) -> Value {
        let mut header = header.clone();
        header["v"] = header.get("v").cloned().unwrap_or(json!(1));
        if let (Some(session), None) = (&self.session, header.get("session")) {
            header["session"] = json!(session);
        }
        header
    }

    /// Sends a sealed call and opens its answer.
    pub fn exchange(&self, body: &[u8]) -> Result<(Value, Vec<u8>), Reply> {
        let reply = self.raw(&self.post(body)).unwrap();
        self.opened(body, reply)
    }

    /// A call that is said again for as long as the host has no place for its connection, as a page does.
    pub fn call_until_heard(&self, header: &Value) -> Result<(Value, Vec<u8>), Reply> {
        let ends = Instant::now() + PATIENCE;
        loop {
            let body = self.sealed(&text(&self.headed(header), &[]));
            match self.raw(&self.post(&body)) {
                Some(reply) => return self.opened(&body, reply),
                None => assert!(Instant::now() < ends, "the host hears nobody"),
            }
        }
    }

    fn opened(&self, body: &[u8], reply: Reply) -> Result<(Value, Vec<u8>), Reply> {
        if reply.status != 200 {
            return Err(reply);
        }
        let mut call = [0; NONCE_BYTES];
        call.copy_from_slice(&body[..NONCE_BYTES]);
        let mut answer = reply.body;
        let opened = self.keys.open_answer(&call, &mut answer).expect("the answer is genuine");
        let text = &answer[opened];
        let header_bytes = u32::from_le_bytes(text[..4].try_into().unwrap()) as usize;
        Ok((serde_json::from_slice(&text[4..4 + header_bytes]).unwrap(), text[4 + header_bytes..].to_vec()))
    }

    /// A text, sealed as a call.
    pub fn sealed(&self, text: &[u8]) -> Vec<u8> {
        let nonce = random_bytes::<NONCE_BYTES>().unwrap();
        let mut body = [&nonce[..], text, &[0; TAG_BYTES]].concat();
        assert!(self.keys.seal_call(&mut body));
        body
    }

    /// The request that such a body is sent with.
    pub fn post(&self, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST /v1/{} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            self.link.room(),
            self.address(),
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

/// Header and payload as what is sealed.
pub fn text(header: &Value, payload: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&u32::try_from(header.len()).unwrap().to_le_bytes()[..], header.as_bytes(), payload].concat()
}

/// Sends a request and reads one answer.
pub fn exchange(address: SocketAddr, request: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(request);
    read_reply(&mut stream, request.starts_with(b"HEAD "))
}

/// Reads one answer from a connection.
pub fn read_reply(stream: &mut impl Read, is_head: bool) -> Option<Reply> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let mut more = [0; 4096];
        match stream.read(&mut more) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&more[..read]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut reply = Reply { status, head, body: bytes[end + 4..].to_vec(), is_cut: false };
    let length: usize = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
    let length = if is_head || status == 304 || status == 204 { 0 } else { length };
    while reply.body.len() < length {
        let mut more = [0; 16_384];
        match stream.read(&mut more) {
            Ok(0) | Err(_) => {
                reply.is_cut = true;
                break;
            }
            Ok(read) => reply.body.extend_from_slice(&more[..read]),
        }
    }
    Some(reply)
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
