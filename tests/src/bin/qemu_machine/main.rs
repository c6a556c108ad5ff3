//! System tests of the QEMU test machine; `cargo xtask qemu test`, `cuts` and `report` run this with the image that they made.

mod boot;
mod world;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tidegate_tests::machine::Image;

/// A system test: its name is a sentence, and the future is the whole of it.
type Case = (&'static str, fn(Image) -> std::pin::Pin<Box<dyn Future<Output = Result<()>>>>);

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        [$((stringify!($name), |image| Box::pin($module::$name(image)))),*]
    };
}

const CASES: [Case; 1] = cases![boot::a_configured_card_boots_and_publishes_its_first_reading];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = runtime.context("no runtime").and_then(|runtime| match words[..] {
        ["test", image] => runtime.block_on(test(Path::new(image), "")),
        ["test", image, name] => runtime.block_on(test(Path::new(image), name)),
        _ => bail!("usage: qemu_machine test IMAGE [NAME]"),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qemu_machine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn test(image: &Path, part: &str) -> Result<()> {
    let image = Image::at(image)?;
    let chosen: Vec<&Case> = CASES.iter().filter(|(name, _)| name.contains(part)).collect();
    if chosen.is_empty() {
        bail!("no system test has {part:?} in its name");
    }
    let mut failed = 0;
    for (name, case) in chosen {
        let began = Instant::now();
        let done = case(image.clone()).await;
        let took = began.elapsed().as_secs();
        match done {
            Ok(()) => println!("{name}: ok, {took} s"),
            Err(error) => {
                failed += 1;
                println!("{name}: FAILED after {took} s: {error:#}");
            }
        }
    }
    if failed == 0 { Ok(()) } else { bail!("{failed} system tests failed") }
}
