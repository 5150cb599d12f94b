use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// A connection with minimal overhead: on a small machine, a full-featured client would dominate the measurement.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), address: address.to_owned() })
    }

    /// Posts a body. Returns the response's status and body.
    pub(crate) async fn post(&mut self, kind: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut request = Vec::with_capacity(head.len() + body.len());
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(body);
        self.stream.write_all(&request).await?;
        let (status, length) = self.head().await?;
        let mut body = vec![0; length.context("a response without content-length")?];
        self.stream.read_exact(&mut body).await?;
        Ok((status, body))
    }

    /// Reads the feed from its beginning until `count` notifications have arrived.
    pub(crate) async fn listen(mut self, count: usize) -> Result<()> {
        let request = format!("GET /v1/feed?from=beginning HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        self.stream.write_all(request.as_bytes()).await?;
        let (status, _) = self.head().await?;
        if status != 200 {
            bail!("the feed answered with {status}");
        }
        let (mut seen, mut line) = (0, Vec::new());
        while seen < count {
            line.clear();
            if self.stream.read_until(b'\n', &mut line).await? == 0 {
                bail!("the feed ended after {seen} of {count} notifications");
            }
            // Other lines are chunk sizes, ids and event names.
            seen += usize::from(line.starts_with(b"data: {"));
        }
        Ok(())
    }

    async fn head(&mut self) -> Result<(u16, Option<usize>)> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status line")?;
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            if line.trim().is_empty() {
                return Ok((status, length));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
    }
}
