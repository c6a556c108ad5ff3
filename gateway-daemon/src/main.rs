//! The program; everything is in the library, so that tests can start the very same.

fn main() -> std::process::ExitCode {
    gateway_daemon::app::main()
}
