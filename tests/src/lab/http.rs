//! Just enough HTTP/1.1 for tests: one request a connection, blocking, everything in memory.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Result, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server answered.
#[derive(Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Headers, their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request on a connection of its own and reads the answer to its end.
///
/// # Errors
/// When the server cannot be reached, is silent for too long, breaks off, or does not speak HTTP.
pub fn ask(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Reply> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body)?;
    answer(BufReader::new(stream), method == "HEAD")
}

fn answer(mut from: impl BufRead, bodiless: bool) -> Result<Reply> {
    let head = read_head(&mut from)?;
    let status = head.first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status in {:?}", head.first)))?;
    let chunked = head.get("transfer-encoding") == Some("chunked");
    let mut body = Vec::new();
    if bodiless {
    } else if chunked {
        while let Some(chunk) = read_chunk(&mut from)? {
            body.extend(chunk);
        }
    } else if let Some(length) = head.length() {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
    } else {
        from.read_to_end(&mut body)?;
    }
    Ok(Reply { status, headers: head.headers.into_iter().collect(), body })
}

fn read_chunk(from: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let size = usize::from_str_radix(line.trim_end(), 16).map_err(std::io::Error::other)?;
    let mut chunk = vec![0; size + 2];
    from.read_exact(&mut chunk)?;
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}

/// The first line and the headers of a request or an answer; a header may be there more than once.
pub(super) struct Head {
    pub(super) first: String,
    pub(super) headers: Vec<(String, String)>,
}

impl Head {
    fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn length(&self) -> Option<usize> {
        self.get("content-length")?.parse().ok()
    }
}

/// Reads up to the empty line. What does not look like HTTP, such as the beginning of TLS, is an error.
pub(super) fn read_head(from: &mut impl BufRead) -> Result<Head> {
    let mut first = String::new();
    from.by_ref().take(8192).read_line(&mut first)?;
    if !first.contains("HTTP/1.") {
        return Err(std::io::Error::other(format!("not HTTP: {first:?}")));
    }
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.by_ref().take(8192).read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None if line == "\r\n" => return Ok(Head { first: first.trim_end().to_owned(), headers }),
            None => return Err(std::io::Error::other(format!("not a header: {line:?}"))),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Reply> {
        answer(text.as_bytes(), false)
    }

    #[test]
    fn bodies_end_where_they_say() {
        let counted =
            read("HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 3\r\n\r\nabcdef").expect("an answer");
        assert_eq!((counted.status, counted.text().as_str(), counted.headers["location"].as_str()), (201, "abc", "/x"));
        let chunked =
            read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(chunked.expect("an answer").text(), "abc0123456789");
        assert_eq!(read("HTTP/1.0 200 OK\r\n\r\nabc").expect("an answer").text(), "abc");
    }

    #[test]
    fn what_breaks_off_or_is_not_http_is_an_error() {
        read("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc").expect_err("too short");
        read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab").expect_err("too short");
        read("HTTP/1.1 200 OK\r\nConte").expect_err("no end of the head");
        read("\u{16}\u{3}\u{1}\r\n\r\n").expect_err("TLS");
    }
}
