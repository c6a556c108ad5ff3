//! The commands and their words.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cross::{Target, WayChoice};
use crate::image::Board;

/// The one door to test, measure and look after the sources of Tidegate.
///
/// Before a commit: `cargo xtask check`. Before a merge: `cargo xtask test`. Everything else is for looking closer.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Everything that a change must pass; what CI runs
    ///
    /// Ends with one line for each step that did not run, with its reason, and with `N passed, N failed, N skipped`. With `--install` it installs what
    /// README.md lists and upgrades nothing. With CI=true a step that did not run is a failure, but for those that cannot run on CI's machines.
    Test(Test),
    /// The quick part, before a commit: format, clippy, tidy
    ///
    /// Format and clippy of the whole workspace with warnings as errors, and the tidy tests that know the rules of the house
    /// (who may import whom, file lengths, forbidden words). About a minute.
    Check,
    /// Sets up the real peers of the tests: mosquitto, libmodbus, pymodbus, Paho, and an npm client
    ///
    /// System packages come by apt-get (only as root), those of PyPI and npm go into folders of their own under target/peers.
    /// Where that is not possible, prints the one line that installs what is missing, and fails. `test` does this first.
    Peers,
    /// The simulation of uplink, store and network in virtual time
    ///
    /// Days of outages, resets, reboots and full disks in seconds. A failing run prints its seed; the same seed is the same run.
    /// `sim broker` is that of the local broker: clients, attackers, a cloud behind a bridge, and everything that goes wrong.
    /// `sim many` runs seeds that the commit chooses, thousands of both on all processors: docs/simulation.md.
    Sim(Passed),
    /// Attacks the local broker with real sockets, and prints what polls, other clients and a restart noticed
    ///
    /// Builds the program as it is shipped and runs it inside a memory limit beside polls every 20 ms; docs/attacks.md has the list and the figures.
    /// `attack 4 18` runs those of these numbers, `attack -- --help` shows the rest. Fails when a goal is missed. `test` runs a short form.
    Attack(Passed),
    /// Feeds hostile bytes to the decoders
    ///
    /// Uses cargo-fuzz and a nightly toolchain; the committed corpora in tests/fuzz/corpus are replayed, with mutations, by every
    /// `cargo xtask test` on stable. A crash is kept in tests/fuzz/artifacts/TARGET: add it to the corpus with the fix.
    Fuzz(Fuzz),
    /// Whether core's own tests notice when core is changed
    ///
    /// The commit's hash draws a sample of cargo-mutants' changes of core; each is built and tested by itself, which takes about a minute. Fails when one lives
    /// that docs/mutants.md does not name with a reason. Installs cargo-mutants where it is missing.
    Mutants(Mutants),
    /// Measures, and prints every number beside its limit or peer and its goal
    ///
    /// Runs every bench_* program of the tests package in release, with the gateway as it is shipped, one after the other, and closes with one table. The machine
    /// should do nothing else meanwhile. Fails when a goal is missed.
    Bench(Bench),
    /// The long end-to-end test: kill -9 of the gateway again and again, and count
    ///
    /// After each round: produced = in memory + stored + acknowledged + dropped, nothing missing beyond the commit interval, and no queue out of
    /// order. `test` runs a few rounds of the same test; this is for before a release.
    E2e(E2e),
    /// The tests that need hours rather than seconds, with their long parameters
    ///
    /// Sets TIDEGATE_SOAK_S for every test of the workspace whose name contains `soak`; `test` runs them for a moment only.
    Soak(Soak),
    /// What this version has stored the version before delivers, and the other way round
    ///
    /// Builds the program of a commit out of the history (target/before) and runs it and the present one in turns on the same files. `test` does it with the
    /// last commit of the version before.
    Rollback(Rollback),
    /// Builds the daemon for the boards: target/cross/TRIPLE/release/gateway-daemon, stripped
    ///
    /// With the first of these that is there: the target in the running toolchain of rustup, `cross` with a Docker engine, Debian's rustc with its
    /// foreign standard library (fetched by apt-get and unpacked below target/cross, without root and without installing it). The C cross compiler
    /// comes by apt-get install (only as root); where that is not possible, prints the line that installs it. What was stripped is kept in
    /// gateway-daemon.debug beside the program. Prints its size and the C library that it asks for, and fails when a board has no such.
    Cross(Cross),
    /// Builds the card image and the update bundle with Buildroot: target/image/BOARD/images
    ///
    /// BUILDROOT_DIR names a checkout of Buildroot. Takes the daemon that `cross` built. Fails when Buildroot or the kernel was built without an option that
    /// the configuration asks for, and names it. Also lists the parts (CycloneDX, sbom.cdx.json) and collects the licences (legal-info).
    Image(Image),
    /// Makes and boots the QEMU test machine: the image's units, layout and updates on Debian arm64, under emulation
    ///
    /// Installs what it needs (QEMU, U-Boot, mmdebstrap, RAUC) by apt-get as root, unpacks Debian packages, and keeps everything below target/qemu until
    /// something that goes into it changes. There is no hardware in it that a Pi has but serial ports, a disk and a network; docs/qemu.md says what that proves.
    Qemu(Qemu),
    /// Rewrites the golden files; look at the difference before you commit it
    ///
    /// Runs the golden tests with TIDEGATE_GOLDEN=write: error messages of wrong configurations, schema, references, help.
    Golden,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Set up what is missing first: Debian packages (as root), cargo-deny, and what goes below target/; without it nothing is installed or fetched
    #[arg(long)]
    pub(crate) install: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Passed {
    /// Arguments of the program, as in `cargo xtask sim --seed 7`; `cargo xtask sim --help` shows this, `-- --help` the program's own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// One target, by the name of its file in tests/fuzz/fuzz_targets; all of them without
    pub(crate) target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Mutants {
    /// How many
    #[arg(long, default_value_t = 30)]
    pub(crate) sample: usize,
    /// Draws as another commit would
    #[arg(long)]
    pub(crate) commit: Option<String>,
    /// Not a sample but all whose name contains this, such as `Cost::of` or `src/poll/plan`
    #[arg(long, conflicts_with = "sample")]
    pub(crate) only: Option<String>,
    /// How many are built and tested at once
    #[arg(long, default_value_t = 1)]
    pub(crate) jobs: u32,
    /// Tests that take longer have noticed it: the mutant is an endless loop
    #[arg(long, default_value_t = 600)]
    pub(crate) seconds: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Bench {
    /// Only programs whose name contains this
    pub(crate) name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct E2e {
    /// How many times the gateway is killed
    #[arg(long, default_value_t = 100)]
    pub(crate) rounds: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Cross {
    /// The processor
    #[arg(long, value_enum, default_value = "aarch64")]
    pub(crate) target: Target,
    /// The profile for development: quick to build, large and slow; below target/cross/TRIPLE/debug
    #[arg(long)]
    pub(crate) debug: bool,
    /// Not the first way that is there but this one
    #[arg(long, value_enum)]
    pub(crate) with: Option<WayChoice>,
    /// Also runs the program under emulation, alone and in the end-to-end tests, as `test` does
    #[arg(long)]
    pub(crate) emulated: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Qemu {
    /// Not the daemon that `cargo xtask cross` builds but this one
    #[arg(long, global = true)]
    pub(crate) daemon: Option<std::path::PathBuf>,
    /// Not Debian's packages but the image of Buildroot in this folder (`target/image/qemu/images`), opened to the tests
    #[arg(long, global = true, value_name = "FOLDER", conflicts_with = "daemon")]
    pub(crate) images: Option<std::path::PathBuf>,
    /// Fetch the packages again and make everything anew
    #[arg(long, global = true)]
    pub(crate) fresh: bool,
    #[command(subcommand)]
    pub(crate) task: QemuTask,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QemuTask {
    /// Makes the card image and the update bundle, and says where they are
    Image,
    /// Boots it in this terminal; Ctrl-A x ends it
    Run,
    /// Runs the system tests, or those whose name contains NAME
    Test {
        /// A part of the name
        name: Option<String>,
    },
    /// Plays the firmware of a Raspberry Pi around the machine: updates that are kept, that fail in each way, and power cuts at each of their steps
    ///
    /// Without NAME every life once, then the cuts.
    Pi {
        /// A part of the name of a life, or `cuts`
        name: Option<String>,
        /// Not the card of Raspberry Pi 3 and 4 but that of 5
        #[arg(long)]
        rpi5: bool,
        /// How many times the power is cut at each step
        #[arg(long, default_value_t = 2)]
        rounds: u64,
        /// Repeats the lots of an earlier run; when exactly a cut comes is also up to the host
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Prints sizes, packages, boot times and memory of the machine at rest
    Report,
    /// Cuts the power at random moments while booting, polling, draining and updating
    Cuts {
        /// How many times
        #[arg(long, default_value_t = 20)]
        rounds: u64,
        /// How many machines at once
        #[arg(long, default_value_t = 2)]
        jobs: u64,
        /// Repeats the lots of an earlier run; when exactly a cut comes is also up to the host
        #[arg(long)]
        seed: Option<u64>,
        /// No round begins after this long
        #[arg(long, default_value_t = 600)]
        minutes: u64,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Soak {
    /// How long each test runs, in seconds
    #[arg(long, default_value_t = 3600)]
    pub(crate) seconds: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// Another commit than the last one of the version before
    #[arg(long)]
    pub(crate) commit: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    /// What the image starts on
    #[arg(long, value_enum, default_value = "rpi64")]
    pub(crate) board: Board,
    /// Only prints the figures of the image that was built
    #[arg(long)]
    pub(crate) report: bool,
    /// Only checks the configurations of all boards, as `test` does; builds nothing and needs no network
    #[arg(long, conflicts_with = "report")]
    pub(crate) check: bool,
    /// The program to install, instead of the one that `cargo xtask cross` left in target/cross
    #[arg(long, conflicts_with = "from_sources")]
    pub(crate) daemon: Option<PathBuf>,
    /// Buildroot builds the program itself, with its own Rust
    #[arg(long)]
    pub(crate) from_sources: bool,
    /// How many compilers run at once; 0 is one more than there are processors
    #[arg(long, default_value_t = 0)]
    pub(crate) jobs: u32,
}
