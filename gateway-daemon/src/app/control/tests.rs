use std::sync::Arc;

use super::super::client;
use super::bench::Bench;
use super::*;
use crate::cli::exit;

/// Long enough for a loaded machine; a green test never waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

async fn bench_with(text: &'static str) -> Bench {
    Bench::that_answers(Reply::Text(text.into())).await
}

async fn bench() -> Bench {
    bench_with("well").await
}

/// What the socket says to these bytes until it closes, or until the first line if it stays open.
async fn say(path: &Path, bytes: &[u8], end: bool) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The other side may close before it has read all of it.
    let _ = stream.write_all(bytes).await;
    if end {
        let _ = stream.shutdown().await;
    }
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    let read = stream.read_line(&mut line);
    // A reset is what a peer sees that has more to say than it may.
    let _ = tokio::time::timeout(DEADLINE, read).await.unwrap();
    line
}

async fn is_well(path: &Path) -> bool {
    let mut client = Client::connect(path).await.unwrap();
    client.ask(&Ask::Metrics).await.unwrap();
    tokio::time::timeout(DEADLINE, client.reply()).await.unwrap().unwrap() == Reply::Text("well".into())
}

#[tokio::test]
async fn garbage_is_answered_with_what_is_wrong_and_hurts_nobody_else() {
    let bench = bench().await;
    for (bytes, words) in [
        (&b"hello\n"[..], "not a request"),
        (b"\n", "not a request"),
        (b"{\"do\":\"dance\"}\n", "dance"),
        (b"{\"do\":\"read\",\"device\":\"a\"}\n", "tag"),
        (b"{\"do\":\"read\",\"device\":\"a\",\"tag\":\"b\",\"more\":1}\n", "more"),
        (b"\xff\xfe\x00\n", "not a request"),
        (b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", "not a request"),
        (b"{\"do\":\"read-raw\",\"at\":{\"bus\":\"a\",\"unit\":300,\"table\":\"coil\",\"address\":0},\"count\":1}\n", "300"),
    ] {
        let answer = say(&bench.path, bytes, false).await;
        assert!(answer.starts_with("{\"refused\":") && answer.contains(words), "{bytes:?}: {answer}");
    }
    assert!(is_well(&bench.path).await);
}

#[tokio::test]
async fn an_endless_line_ends_at_its_limit() {
    let bench = bench().await;
    let exactly = vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap()];
    let answer = say(&bench.path, &exactly, false).await;
    assert!(answer.contains("longer than 4096 bytes"), "{answer}");
    say(&bench.path, &vec![b'x'; 1 << 20], false).await;
    assert!(is_well(&bench.path).await);
}

#[tokio::test]
async fn half_a_line_and_a_client_that_leaves_at_once_are_no_fault() {
    let bench = bench().await;
    let answer = say(&bench.path, b"{\"do\":\"sta", true).await;
    assert!(answer.contains("not a request"), "{answer}");
    assert_eq!(say(&bench.path, b"", true).await, "");
    drop(UnixStream::connect(&bench.path).await.unwrap());
    let mut asker = UnixStream::connect(&bench.path).await.unwrap();
    asker.write_all(b"{\"do\":\"metrics\"}\n").await.unwrap();
    drop(asker);
    assert!(is_well(&bench.path).await);
}

#[tokio::test]
async fn one_client_too_many_is_told_so_and_the_place_of_one_who_leaves_is_free() {
    let bench = bench().await;
    let mut guests = Vec::new();
    for _ in 0..CLIENTS_MAX {
        let mut client = Client::connect(&bench.path).await.unwrap();
        client.ask(&Ask::Metrics).await.unwrap();
        client.reply().await.unwrap();
        guests.push(client);
    }
    let mut late = Client::connect(&bench.path).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, late.reply()).await.unwrap().unwrap();
    let Reply::Busy(sentence) = answer else { panic!("{answer:?}") };
    assert!(sentence.contains("8 commands are connected") && sentence.contains("try again"), "{sentence}");
    // Whether it is told before or after it has asked.
    for _ in 0..50 {
        let mut late = Client::connect(&bench.path).await.unwrap();
        late.ask(&Ask::Status).await.unwrap();
        let answer = tokio::time::timeout(DEADLINE, late.reply()).await.unwrap().unwrap();
        assert_eq!(answer, Reply::Busy(sentence.clone()));
    }
    late.ask(&Ask::Status).await.unwrap();
    let fault = tokio::time::timeout(DEADLINE, late.reply()).await.unwrap().unwrap_err();
    assert!(matches!(fault.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{fault}");
    let fault = client::ask_all(&bench.path, &[Ask::Status]).await.unwrap_err();
    assert_eq!((fault.to_string(), fault.code()), (sentence, exit::BUSY));
    guests.pop();
    let free = async {
        // The gateway learns of the goodbye when it looks at the socket; until then it is still full.
        loop {
            let mut client = Client::connect(&bench.path).await.unwrap();
            if client.ask(&Ask::Metrics).await.is_ok() && matches!(client.reply().await, Ok(Reply::Text(_))) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, free).await.unwrap();
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_only_itself() {
    let long: &'static str = Box::leak("well ".repeat(100_000).into_boxed_str());
    let bench = bench_with(long).await;
    let mut deaf = UnixStream::connect(&bench.path).await.unwrap();
    for _ in 0..100 {
        deaf.write_all(b"{\"do\":\"metrics\"}\n").await.unwrap();
    }
    let mut client = Client::connect(&bench.path).await.unwrap();
    client.ask(&Ask::Metrics).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, client.reply()).await.unwrap().unwrap();
    assert_eq!(answer, Reply::Text(long.into()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_closed_after_its_time() {
    let bench = bench().await;
    let mut silent = UnixStream::connect(&bench.path).await.unwrap();
    silent.write_all(b"{\"do\":").await.unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

#[tokio::test]
async fn requests_in_one_write_are_answered_in_their_order() {
    let bench = bench().await;
    let mut client = UnixStream::connect(&bench.path).await.unwrap();
    client.write_all(b"{\"do\":\"metrics\"}\n{\"do\":\"metrics\"}\nno\n").await.unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).await.unwrap();
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines[..2], ["{\"text\":\"well\"}"; 2]);
    assert!(lines[2].starts_with("{\"refused\""), "{all}");
}

#[tokio::test]
async fn a_gateway_that_stops_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let control = Control::bind(&path).await.unwrap();
    let serving = tokio::spawn(control.serve(requests));
    let mut client = Client::connect(&path).await.unwrap();
    drop(asked);
    // Either the client is let in and told, or nobody is let in any more.
    if client.ask(&Ask::Status).await.is_ok() {
        match client.reply().await {
            Ok(reply) => assert_eq!(reply, Reply::Refused("the gateway is stopping".into())),
            Err(fault) => assert_ne!(fault.kind(), std::io::ErrorKind::InvalidData),
        }
    }
    serving.await.unwrap();
    assert!(!path.exists(), "the socket is removed at the end");
}

#[tokio::test]
async fn a_socket_left_behind_by_a_dead_gateway_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let control = Control::bind(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(control);
    assert!(!path.exists());
}

#[tokio::test]
async fn the_socket_of_a_running_gateway_is_left_alone() {
    let bench = bench().await;
    let fault = Control::bind(&bench.path).await.unwrap_err();
    assert!(matches!(fault, ControlError::Taken { .. }), "{fault}");
    assert!(fault.to_string().ends_with("stop it first"), "{fault}");
    assert!(is_well(&bench.path).await);
}

#[tokio::test]
async fn what_is_no_socket_is_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gateway.toml");
    std::fs::write(&file, "precious").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for path in [dir.path(), &file, &link] {
        let fault = Control::bind(path).await.unwrap_err();
        assert!(matches!(fault, ControlError::NotASocket { .. }), "{fault}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let nowhere = Control::bind(&dir.path().join("no/such/folder/control.sock")).await.unwrap_err();
    assert!(matches!(nowhere, ControlError::Bind { .. }), "{nowhere}");
}

#[tokio::test]
async fn a_peer_that_is_no_gateway_does_not_fill_the_memory_of_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let chunk: Arc<[u8]> = vec![b'x'; 1 << 20].into();
    let flood = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(&chunk).await.is_ok() {}
    });
    let mut client = Client::connect(&path).await.unwrap();
    let fault = tokio::time::timeout(DEADLINE, client.reply()).await.unwrap().unwrap_err();
    assert!(fault.to_string().contains("expected value"), "{fault}");
    drop(client);
    flood.await.unwrap();
}

#[tokio::test]
async fn the_kernel_says_who_asks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let control = Control::bind(&path).await.unwrap();
    let (requests, mut asked) = mpsc::channel::<Request>(REQUESTS_MAX);
    let _serving = tokio::spawn(control.serve(requests));
    let mut client = Client::connect(&path).await.unwrap();
    client.ask(&Ask::Status).await.unwrap();
    let by = asked.recv().await.unwrap().by;
    let (uid, pid) = (rustix::process::getuid().as_raw(), std::process::id());
    assert_eq!(by.to_string(), format!("uid {uid}, pid {pid}"));
}

#[tokio::test]
async fn a_first_run_without_root_says_where_the_socket_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let fault = Control::bind(&dir.path().join("run/tidegate/control.sock")).await.unwrap_err().to_string();
    for part in ["its folder does not exist", "socket = \"/tmp/tidegate.sock\"", "[gateway]"] {
        assert!(fault.contains(part), "{fault}");
    }
    assert!(!fault.contains("os error"), "{fault}");
}

#[tokio::test]
async fn a_file_in_place_of_the_socket_is_called_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    std::fs::write(&path, "").unwrap();
    for (path, what) in [(path.as_path(), "it is a file and no socket"), (dir.path(), "it is a folder")] {
        let fault = Client::connect(path).await.unwrap_err();
        assert!(fault.to_string().contains(what), "{fault}");
    }
    // What a program leaves behind that was killed.
    let left = dir.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let fault = Client::connect(&left).await.unwrap_err();
    assert_eq!(fault.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_queue_of_clients_that_is_full_is_a_gateway_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None);
    let socket = socket.unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    // Nobody lets them in.
    let mut waiting = Vec::new();
    while let Ok(client) = UnixStream::connect(&path).await {
        waiting.push(client);
    }
    let fault = client::ask_all(&path, &[Ask::Status]).await.unwrap_err();
    assert_eq!((fault.to_string(), fault.code()), (too_many(), exit::BUSY));
    let taken = Control::bind(&path).await.unwrap_err();
    assert!(matches!(taken, ControlError::Taken { .. }), "{taken}");
    assert!(path.exists(), "the socket of a gateway that runs is left alone");
}
