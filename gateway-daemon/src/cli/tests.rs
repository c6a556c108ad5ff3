use super::*;

fn said(line: &str) -> Said {
    parse(line.split(' ')).expect_err("this line is refused")
}

fn command(line: &str) -> Command {
    parse(line.split(' ')).unwrap_or_else(|said| panic!("{}", said.text))
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples_or_needs_none() {
    use clap::CommandFactory;
    for command in Cli::command().get_subcommands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("Examples:") || command.get_name() == "schema", "{}", command.get_name());
    }
}

#[test]
fn usage_errors_end_with_64_and_name_the_right_word() {
    let said = said("gateway-daemon chek gateway.toml");
    assert_eq!(said.code, exit::USAGE);
    assert!(said.text.contains("check"), "{}", said.text);
}

#[test]
fn no_command_at_all_teaches_and_ends_with_64() {
    let said = said("gateway-daemon");
    assert_eq!(said.code, exit::USAGE);
    assert!(said.text.contains("gateway-daemon demo"), "{}", said.text);
}

#[test]
fn help_and_version_end_with_0() {
    for line in ["gateway-daemon --help", "gateway-daemon --version", "gateway-daemon scan --help"] {
        assert_eq!(said(line).code, exit::OK, "{line}");
    }
}

#[test]
fn help_lists_the_exit_codes() {
    let text = said("gateway-daemon --help").text;
    for code in [exit::OK, exit::NO, exit::USAGE, exit::UNAVAILABLE, exit::IO, exit::BUSY, exit::CONFIG] {
        assert!(text.contains(&format!("\n{code:>4}  ")), "{code} is missing in\n{text}");
    }
}

#[test]
fn run_reads_the_system_configuration_unless_told() {
    assert_eq!(command("gateway-daemon run"), Command::Run(Run { config: CONFIG_PATH.into() }));
    assert_eq!(command("gateway-daemon run a.toml"), Command::Run(Run { config: "a.toml".into() }));
}

#[test]
fn demo_takes_times_with_units() {
    let Command::Demo(demo) = command("gateway-daemon demo --outage 20s --seconds 40") else { panic!() };
    assert_eq!((demo.outage, demo.seconds), (Some(Duration::from_secs(20)), Some(40)));
    for wrong in ["20", "s", "-1s", "0s", "25h", "99999999999999999999h", "1d", "1.5s"] {
        assert!(parse::duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_raw_point_is_bus_unit_table_address_and_count() {
    let point: RawPoint = "rs485-1:17:holding:0x10:4".parse().unwrap();
    assert_eq!((point.bus.as_str(), point.unit.get(), point.table), ("rs485-1", 17, Table::Holding));
    assert_eq!((point.address, point.count), (16, 4));
    for wrong in [
        "",
        "a:1:holding",
        "a:300:holding:0",
        "a:1:regs:0",
        "a:1:holding:65536",
        "a:1:holding:0:126",
        "a:1:coil:0:2001",
        "a:1:coil:0:0",
        "a:1:holding:65535:2",
        "ä:1:holding:0",
        "a:1:holding:0:1:1",
    ] {
        assert!(wrong.parse::<RawPoint>().is_err(), "{wrong}");
    }
}

#[test]
fn a_write_names_a_tag_and_a_value_or_raw_values() {
    let target = |line| {
        let Command::Write(write) = command(line) else { panic!() };
        write.target().unwrap()
    };
    let tag: TagRef = "boiler/setpoint".parse().unwrap();
    assert_eq!(target("gateway-daemon write boiler/setpoint -2.5"), WriteTarget::Tag(tag, "-2.5".into()));
    let point: RawPoint = "b:1:holding:40".parse().unwrap();
    assert_eq!(
        target("gateway-daemon write --raw b:1:holding:40 100 0xff"),
        WriteTarget::Registers(point, vec![100, 255])
    );
    for wrong in [
        "gateway-daemon write boiler/setpoint",
        "gateway-daemon write setpoint 1",
        "gateway-daemon write a/b 1 2",
        "gateway-daemon write --raw b:1:input:40 1",
        "gateway-daemon write --raw b:1:holding:40 70000",
        "gateway-daemon write --raw b:1:coil:40 2",
        "gateway-daemon write --raw b:1:holding:40:2 1",
    ] {
        let said = said(wrong);
        assert_eq!(said.code, exit::USAGE, "{wrong}: {}", said.text);
    }
}

#[test]
fn a_scan_needs_exactly_one_line() {
    for wrong in [
        "gateway-daemon scan",
        "gateway-daemon scan --port /dev/ttyUSB0 --tcp a",
        "gateway-daemon scan --tcp a --baud 9600",
        "gateway-daemon scan --port p --units 0-5",
        "gateway-daemon scan --port p --units 248",
        "gateway-daemon scan --rtu-over-tcp h:1 --units 255",
        "gateway-daemon scan --tcp h --units 256",
        "gateway-daemon scan --port p --units 9-5",
        "gateway-daemon scan --port p --baud 1",
        "gateway-daemon scan --tcp fe80::1",
    ] {
        assert_eq!(said(wrong).code, exit::USAGE, "{wrong}");
    }
    let Command::Scan(scan) = command("gateway-daemon scan --port p --baud 9600,115200 --parity none,odd")
    else {
        panic!()
    };
    assert_eq!((scan.baud, scan.parity), (vec![Baud(9600), Baud(115_200)], vec![Parity::None, Parity::Odd]));
    let Command::Scan(scan) = command("gateway-daemon scan --tcp [fe80::1]:1502 --units 3") else { panic!() };
    assert_eq!(scan.tcp, Some(Endpoint { host: "fe80::1".into(), port: Some(1502) }));
    assert_eq!((scan.units, scan.timeout), (Units { first: 3, last: 3 }, Duration::from_millis(200)));
}

#[test]
fn a_socket_and_a_configuration_exclude_each_other() {
    assert_eq!(said("gateway-daemon status --socket a --config b").code, exit::USAGE);
    let Command::Status(status) = command("gateway-daemon status") else { panic!() };
    assert_eq!(status.reach.socket, PathBuf::from(SOCKET_PATH));
}

#[test]
fn units_0_and_255_can_be_asked_behind_tcp_and_a_serial_line_says_why_not() {
    for (line, units) in [
        ("gateway-daemon scan --tcp h --units 255", (255, 255)),
        ("gateway-daemon scan --tcp h --units 0-255", (0, 255)),
        ("gateway-daemon scan --tcp h", (1, 247)),
        ("gateway-daemon scan --port p --units 1-247", (1, 247)),
    ] {
        let Command::Scan(scan) = command(line) else { panic!("{line}") };
        assert_eq!((scan.units.first, scan.units.last), units, "{line}");
    }
    let text = said("gateway-daemon scan --port p --units 0").text;
    assert!(text.contains("expected 1 to 247") && text.contains("with --tcp 0 to 255"), "{text}");
}

#[test]
fn write_answers_in_json_as_read_does() {
    let Command::Write(write) = command("gateway-daemon write meter1/relay on --json") else { panic!() };
    assert!(write.json);
    assert_eq!(write.target(), Ok(WriteTarget::Tag("meter1/relay".parse().unwrap(), "on".into())));
}
