//! Just enough HTTP/1.1 framing for a loopback benchmark (RFC 9112 §6: content-length and chunked bodies, keep-alive).
//!
//! Not a general client or server: no TLS, no pipelining, no trailers, and bodies are handed out as they came.

use std::io::{Error, ErrorKind, Result};

use memchr::memmem;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Largest message, in bytes, that is read.
const MAX_MESSAGE: usize = 16 << 20;

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

/// Framing and keep-alive of a message, from its headers.
fn framing(headers: &[httparse::Header<'_>]) -> Result<(Framing, bool)> {
    let mut framing = Framing::Length(0);
    let mut keep_alive = true;
    for h in headers {
        if h.name.eq_ignore_ascii_case("content-length") {
            let n = std::str::from_utf8(h.value)
                .ok()
                .and_then(|v| v.trim().parse().ok())
                .filter(|n| *n <= MAX_MESSAGE)
                .ok_or_else(|| invalid("content-length"))?;
            framing = Framing::Length(n);
        } else if h.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if h.name.eq_ignore_ascii_case("connection") {
            keep_alive = !h.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok((framing, keep_alive))
}

/// End of the body that starts at `start`, or None when more bytes are needed.
fn body_end(buf: &[u8], start: usize, framing: Framing) -> Result<Option<usize>> {
    match framing {
        Framing::Length(n) => Ok((buf.len() >= start + n).then_some(start + n)),
        Framing::Chunked => {
            let mut at = start;
            loop {
                let Some(nl) = memmem::find(&buf[at..], b"\r\n") else {
                    return Ok(None);
                };
                let size = std::str::from_utf8(&buf[at..at + nl])
                    .ok()
                    .and_then(|s| usize::from_str_radix(s.split(';').next()?.trim(), 16).ok())
                    .filter(|n| *n <= MAX_MESSAGE)
                    .ok_or_else(|| invalid("chunk size"))?;
                at += nl + 2 + size + 2;
                if buf.len() < at {
                    return Ok(None);
                }
                if size == 0 {
                    return Ok(Some(at));
                }
            }
        }
    }
}

/// A request that was read.
pub(crate) struct Request<'a> {
    /// Path with its query.
    pub(crate) path: &'a str,
    /// Raw body: chunk headers, if any, are left in.
    pub(crate) body: &'a [u8],
    /// Whether the connection stays usable.
    pub(crate) keep_alive: bool,
}

/// A response that was read.
pub(crate) struct Response<'a> {
    /// Status code.
    pub(crate) status: u16,
    /// Raw body: chunk headers, if any, are left in.
    pub(crate) body: &'a [u8],
    /// Whether the connection stays usable.
    pub(crate) keep_alive: bool,
}

/// A connection with its read buffer.
pub(crate) struct Conn {
    stream: TcpStream,
    buf: Vec<u8>,
    /// Bytes of `buf` taken by the message handed out last.
    used: usize,
}

impl Conn {
    /// Takes over an open connection.
    pub(crate) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, buf: Vec::with_capacity(16 << 10), used: 0 })
    }

    /// Connects to `addr`, HOST:PORT.
    pub(crate) async fn connect(addr: &str) -> Result<Self> {
        Self::new(TcpStream::connect(addr).await?)
    }

    /// Writes raw bytes.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Drops the previous message and reads more; false at a clean end of stream.
    async fn fill(&mut self) -> Result<bool> {
        if self.buf.len() > MAX_MESSAGE {
            return Err(invalid("message too large"));
        }
        let n = self.stream.read_buf(&mut self.buf).await?;
        if n == 0 && !self.buf.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(n > 0)
    }

    fn drop_used(&mut self) {
        if self.used == self.buf.len() {
            self.buf.clear();
        } else {
            self.buf.drain(..self.used);
        }
        self.used = 0;
    }

    /// The next request, or None when the peer closed the connection.
    pub(crate) async fn request(&mut self) -> Result<Option<Request<'_>>> {
        self.drop_used();
        let (head, end, path, keep_alive) = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut req = httparse::Request::new(&mut headers);
            if let httparse::Status::Complete(head) = req.parse(&self.buf).map_err(|_| invalid("request"))? {
                let (framing, keep_alive) = framing(req.headers)?;
                if let Some(end) = body_end(&self.buf, head, framing)? {
                    let path = req.path.unwrap_or("/");
                    let at = path.as_ptr() as usize - self.buf.as_ptr() as usize;
                    break (head, end, at..at + path.len(), keep_alive);
                }
            }
            if !self.fill().await? {
                return Ok(None);
            }
        };
        self.used = end;
        Ok(Some(Request {
            path: std::str::from_utf8(&self.buf[path]).map_err(|_| invalid("path"))?,
            body: &self.buf[head..end],
            keep_alive,
        }))
    }

    /// Sends one request and reads its response.
    pub(crate) async fn call(&mut self, request: &[u8]) -> Result<Response<'_>> {
        self.drop_used();
        self.stream.write_all(request).await?;
        let (head, end, status, keep_alive) = loop {
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut res = httparse::Response::new(&mut headers);
            if let httparse::Status::Complete(head) = res.parse(&self.buf).map_err(|_| invalid("response"))? {
                let (framing, keep_alive) = framing(res.headers)?;
                if let Some(end) = body_end(&self.buf, head, framing)? {
                    break (head, end, res.code.unwrap_or(0), keep_alive);
                }
            }
            if !self.fill().await? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        self.used = end;
        Ok(Response { status, body: &self.buf[head..end], keep_alive })
    }
}

/// Sends one GET on a connection of its own.
///
/// # Errors
/// When there is no answer. A status is not an error: the caller judges it.
pub(crate) async fn get(addr: &str, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut conn = Conn::connect(addr).await?;
    let response = conn.call(&request("GET", addr, path, &[], b"")).await?;
    Ok((response.status, response.body.to_vec()))
}

/// Bytes of a request.
pub(crate) fn request(
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut out = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
    for (k, v) in headers {
        out.extend_from_slice(format!("{k}: {v}\r\n").as_bytes());
    }
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_end_where_their_framing_says() {
        assert_eq!(body_end(b"ab", 0, Framing::Length(3)).unwrap(), None);
        assert_eq!(body_end(b"abc", 0, Framing::Length(3)).unwrap(), Some(3));
        let chunked = b"2\r\nab\r\n0\r\n\r\n";
        assert_eq!(body_end(chunked, 0, Framing::Chunked).unwrap(), Some(chunked.len()));
        assert_eq!(body_end(&chunked[..9], 0, Framing::Chunked).unwrap(), None);
        assert!(body_end(b"zz\r\n", 0, Framing::Chunked).is_err());
    }
}
