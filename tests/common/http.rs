//! An HTTP/1.1 client of a few lines: what a request needs to be counted as answered, and nothing that retries or hides.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request on a connection of its own (`Connection: close`).
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    get_with(addr, path, &[])
}

/// The same with further headers.
pub fn get_with(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    Connection::open(addr)?.request(path, &[&[("Connection", "close")], headers].concat())
}

/// The name of the mock backend that answered `GET /`.
pub fn backend_of(addr: SocketAddr) -> io::Result<String> {
    Ok(get(addr, "/")?.text())
}

/// A kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream })
    }

    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.request(path, &[])
    }

    fn request(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes())?;
        read_response(&mut self.stream)
    }
}

fn read_response(stream: &mut impl Read) -> io::Result<Response> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let (head, mut body) = read_head(stream)?;
    let mut lines = head.lines();
    let status =
        lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).ok_or_else(|| bad("no status"))?;
    let headers: Vec<_> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut response = Response { status, headers, body: Vec::new() };
    match response.header("content-length").and_then(|v| v.parse::<usize>().ok()) {
        Some(length) => {
            let have = body.len();
            body.resize(length, 0);
            stream.read_exact(body.get_mut(have..).ok_or_else(|| bad("more than Content-Length"))?)?;
        }
        None => {
            stream.read_to_end(&mut body)?;
        }
    }
    response.body = body;
    Ok(response)
}

/// The head as text, and what came with it of the body.
pub fn read_head(stream: &mut impl Read) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            let why = if bytes.is_empty() { "closed before an answer" } else { "closed within the head" };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        bytes.extend_from_slice(&chunk[..n]);
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
    }
}
