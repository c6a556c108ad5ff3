//! The daemon itself, once more under this package, so that cargo builds it for the end-to-end tests.

fn main() -> std::process::ExitCode {
    gateway_daemon::app::main()
}
