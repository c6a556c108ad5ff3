//! A control socket in front of a gateway that always answers the same, for tests.

use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

pub(in crate::app) struct Bench {
    _dir: TempDir,
    pub(in crate::app) path: PathBuf,
    _serving: JoinHandle<()>,
}

impl Bench {
    pub(in crate::app) async fn that_answers(reply: Reply) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let control = Control::bind(&path).await.unwrap();
        let (requests, mut asked) = mpsc::channel::<Request>(REQUESTS_MAX);
        tokio::spawn(async move {
            while let Some(request) = asked.recv().await {
                let _ = request.reply.send(reply.clone());
            }
        });
        Self { _dir: dir, path, _serving: tokio::spawn(control.serve(requests)) }
    }
}
