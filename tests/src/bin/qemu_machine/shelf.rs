//! A web server with update bundles: GET and HEAD of files in one folder, with ranges, as RAUC's streaming asks for them. It counts what it hands out.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest line of a request that is taken.
const LINE_MAX: usize = 8 << 10;

/// A running server; it ends when dropped.
pub(crate) struct Shelf {
    /// TCP port on 127.0.0.1, which the guest reaches at 10.0.2.2.
    pub(crate) port: u16,
    task: JoinHandle<()>,
    folder: PathBuf,
    served: Arc<AtomicU64>,
}

impl Shelf {
    pub(crate) async fn open(folder: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (folder, served) = (folder.to_owned(), Arc::default());
        let (kept, counter) = (folder.clone(), Arc::clone(&served));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (folder, served) = (folder.clone(), Arc::clone(&counter));
                tokio::spawn(async move {
                    // A client that goes in the middle is a power cut.
                    let _ = serve(stream, folder, &served).await;
                });
            }
        });
        Ok(Self { port, task, folder: kept, served })
    }

    /// How many bytes of files were handed out so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The share of the file `name` that was handed out since there were `before` bytes.
    pub(crate) fn share(&self, name: &str, before: u64) -> Result<f64> {
        let whole = std::fs::metadata(self.folder.join(name)).with_context(|| name.to_owned())?.len();
        let loaded = self.served().saturating_sub(before);
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let share = loaded as f64 / whole as f64;
        println!("  {name}: {:.1} of {:.1} MiB were loaded, {:.0} %", mib(loaded), mib(whole), 100.0 * share);
        Ok(share)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, folder: PathBuf, served: &AtomicU64) -> Result<()> {
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(read.read_line(&mut line).await? > 0 && line.len() < LINE_MAX, "the client has gone");
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let first = lines.first().context("no request")?;
        let mut words = first.split(' ');
        let method = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default().trim_start_matches('/');
        let range = lines
            .iter()
            .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let (head, body) = answer(&folder.join(name), method, range.as_deref());
        write.write_all(&head).await?;
        write.write_all(&body).await?;
        served.fetch_add(body.len().try_into()?, Ordering::Relaxed);
    }
}

/// Head and body.
fn answer(path: &Path, method: &str, range: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let Ok(file) = std::fs::File::open(path) else {
        return (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), Vec::new());
    };
    let size = file.metadata().map_or(0, |meta| meta.len());
    let (first, last) = range.and_then(|range| range.split_once('-')).unwrap_or(("0", ""));
    let first = first.parse::<u64>().unwrap_or(0);
    let last = last.parse::<u64>().unwrap_or(u64::MAX).min(size.saturating_sub(1));
    let length = (last + 1).saturating_sub(first);
    let mut head = String::from(if range.is_some() {
        "HTTP/1.1 206 Partial Content\r\n"
    } else {
        "HTTP/1.1 200 OK\r\n"
    });
    if range.is_some() {
        head.push_str(&format!("Content-Range: bytes {first}-{last}/{size}\r\n"));
    }
    head.push_str(&format!("Accept-Ranges: bytes\r\nContent-Length: {length}\r\n\r\n"));
    let mut body = Vec::new();
    if method == "GET" {
        body = vec![0; usize::try_from(length).unwrap_or(0)];
        // A file that shrinks meanwhile is nobody's.
        let _ = file.read_exact_at(&mut body, first);
    }
    (head.into_bytes(), body)
}
