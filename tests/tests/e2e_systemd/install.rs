//! `systemd/install.sh` into folders, by whatever a build machine has; needs no root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What the script calls besides `systemctl` and `systemd-sysusers`.
const TOOLS: [&str; 14] = [
    "sh", "cat", "cut", "date", "dirname", "grep", "install", "ln", "rm", "sed", "touch", "true", "head",
    "mkdir",
];

/// A root with nobody but root in it.
fn skeleton() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc/systemd/system")).unwrap();
    std::fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(root.path().join("etc/group"), "root:x:0:\nuucp:x:998:\n").unwrap();
    root
}

fn install(root: &Path, options: &[&str], path: Option<&Path>) {
    let mut command = Command::new(script());
    command.args(options).arg(root);
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Names of units that something wants.
fn wanted(root: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(root.join("etc/systemd/system")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path()).filter(|path: &PathBuf| path.is_dir());
    let links = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut names: Vec<String> = links.map(|link| link.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn on_a_plain_system_it_brings_the_service_and_leaves_the_rest_alone() {
    let root = skeleton();
    install(root.path(), &["--without-image-parts"], None);
    let has = |path: &str| root.path().join(path).exists();
    assert!(has("usr/lib/systemd/system/tidegate.service") && has("usr/lib/tmpfiles.d/tidegate-plain.conf"));
    for path in [
        "usr/lib/systemd/system/tidegate-storage.service",
        "usr/lib/systemd/system-preset",
        "usr/lib/systemd/journald.conf.d",
        "usr/lib/systemd/network",
        "etc/machine-id",
        "etc/resolv.conf",
    ] {
        assert!(!has(path), "{path} is not its affair");
    }
    assert_eq!(wanted(root.path()), ["tidegate.path", "tidegate.service"]);
}

#[test]
fn a_build_machine_without_systemd_makes_the_same_users_and_links() {
    let tools = tempfile::tempdir().unwrap();
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect::<Vec<_>>();
    for tool in TOOLS {
        let path = found.iter().map(|folder| folder.join(tool)).find(|path| path.is_file()).unwrap();
        std::os::unix::fs::symlink(path, tools.path().join(tool)).unwrap();
    }
    let (without, with) = (skeleton(), skeleton());
    install(without.path(), &[], Some(tools.path()));
    install(with.path(), &[], None);
    for (file, name) in [("etc/passwd", "tidegate:"), ("etc/group", "tidegate:"), ("etc/group", "gpio:")] {
        let text = std::fs::read_to_string(without.path().join(file)).unwrap();
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is not in {text}");
        assert!(!text.contains(":998:998:") || name != "tidegate:", "the id of another group: {text}");
    }
    let ours = |root: &Path| -> Vec<String> {
        wanted(root).into_iter().filter(|name| name.starts_with("tidegate")).collect()
    };
    assert!(!ours(with.path()).is_empty());
    assert_eq!(ours(without.path()), ours(with.path()));
    // Again is the same as once.
    install(without.path(), &[], Some(tools.path()));
    let text = std::fs::read_to_string(without.path().join("etc/passwd")).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("tidegate:")).count(), 1, "{text}");
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/install.sh")
}

/// Every file and link below a folder, but those that systemd-sysusers leaves.
fn files(root: &Path) -> Vec<String> {
    let output =
        Command::new("find").arg(root).args(["!", "-type", "d", "-printf", "%P\n"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut files: Vec<String> = text.lines().map(str::to_owned).collect();
    files.retain(|file| {
        !file.contains("passwd")
            && !file.contains("group")
            && !file.contains("shadow")
            && !file.ends_with(".lock")
    });
    files.sort();
    files
}

#[test]
fn what_was_installed_is_gone_after_uninstall_and_what_is_the_users_stays() {
    for options in [&[][..], &["--without-image-parts"]] {
        let root = skeleton();
        std::fs::create_dir_all(root.path().join("usr/lib/systemd/system")).unwrap();
        std::fs::write(root.path().join("usr/lib/systemd/system/other.service"), "[Service]\n").unwrap();
        install(root.path(), options, None);
        assert!(files(root.path()).iter().any(|file| file.contains("tidegate.service")));
        std::fs::write(root.path().join("etc/tidegate/gateway.toml"), "[gateway]\n").unwrap();
        install(root.path(), &["--uninstall"], None);
        let left = files(root.path());
        let of_others = |file: &String| {
            matches!(file.as_str(), "usr/lib/systemd/system/other.service" | "etc/tidegate/gateway.toml")
                // Of the image alone: a root that is built has them from nowhere else.
                || matches!(file.as_str(), "etc/machine-id" | "etc/resolv.conf" | "etc/hosts" | "usr/lib/clock-epoch")
        };
        let strays: Vec<&String> = left.iter().filter(|file| !of_others(file)).collect();
        assert!(strays.is_empty(), "{options:?}: {strays:?}");
        assert!(left.contains(&"etc/tidegate/gateway.toml".to_owned()));
        // Again is the same as once.
        install(root.path(), &["--uninstall"], None);
        assert_eq!(files(root.path()), left);
    }
}

/// In a namespace in which nothing can be written, so that a script that does not ask does no harm.
#[test]
fn a_running_machine_is_not_turned_into_a_gateway_without_a_word() {
    if !super::able("a_running_machine_is_not_turned_into_a_gateway_without_a_word") {
        return;
    }
    let places = tempfile::tempdir().unwrap();
    std::fs::create_dir(places.path().join("mounted")).unwrap();
    std::os::unix::fs::symlink("/", places.path().join("link")).unwrap();
    for (options, said) in [
        ("/", "--yes"),
        ("//", "--yes"),
        ("/..", "--yes"),
        ("link", "--yes"),
        ("link/", "--yes"),
        ("mounted", "--yes"),
        ("--uninstall --what /", "usage"),
    ] {
        let line = format!(
            "mount -o remount,ro,bind / && mount --bind / mounted && mount -o remount,ro,bind mounted && exec \"$0\" {options} </dev/null"
        );
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &line])
            .arg(script().canonicalize().unwrap())
            .current_dir(places.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{options}: {text}");
        assert!(text.contains(said), "{options}: {text}");
        if said == "--yes" {
            for word in ["machine-id", "getty", "resolv.conf", "--without-image-parts", "nothing was changed"]
            {
                assert!(text.contains(word), "{word} is not in {text}");
            }
        }
    }
}

#[test]
fn what_is_a_link_is_replaced_and_nothing_outside_of_the_root_is_written() {
    let (root, outside) = (skeleton(), tempfile::tempdir().unwrap());
    let at = |name: &str| outside.path().join(name);
    for name in ["machine-id", "resolv.conf", "e2fsck.conf", "clock-epoch"] {
        std::fs::write(at(name), name).unwrap();
    }
    std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
    for name in ["etc/machine-id", "etc/resolv.conf", "etc/e2fsck.conf", "etc/hosts", "usr/lib/clock-epoch"] {
        let target = at(name.rsplit('/').next().unwrap());
        std::os::unix::fs::symlink(target, root.path().join(name)).unwrap();
    }
    let time = |name: &str| std::fs::metadata(at(name)).unwrap().modified().unwrap();
    let before = time("clock-epoch");
    install(root.path(), &[], None);
    for name in ["machine-id", "resolv.conf", "e2fsck.conf", "clock-epoch"] {
        assert_eq!(std::fs::read_to_string(at(name)).unwrap(), name, "written through a link");
    }
    assert_eq!(time("clock-epoch"), before);
    assert!(!at("hosts").exists(), "made through a link");
    assert_eq!(std::fs::read(root.path().join("etc/machine-id")).unwrap(), b"");
    assert!(std::fs::read_to_string(root.path().join("etc/hosts")).unwrap().contains("localhost"));
}

#[test]
fn a_folder_that_is_a_link_to_outside_of_the_root_is_refused_before_anything_is_written() {
    for (link, options) in [
        ("usr", ["--yes"].as_slice()),
        ("usr", &["--without-image-parts"]),
        ("usr/lib/systemd", &["--without-image-parts"]),
        ("usr/lib/systemd/system", &["--without-image-parts"]),
        ("usr/lib/tmpfiles.d", &["--without-image-parts"]),
        ("usr/lib/systemd/network", &["--yes"]),
        ("usr/lib/systemd/network", &["--without-image-parts", "--uninstall"]),
        ("etc", &["--yes"]),
        ("etc/tidegate", &["--without-image-parts"]),
        ("var", &["--yes"]),
    ] {
        let (root, outside) = (skeleton(), tempfile::tempdir().unwrap());
        let there = root.path().join(link);
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        let _ = std::fs::rename(&there, root.path().join("before"));
        std::os::unix::fs::symlink(outside.path(), &there).unwrap();
        let before = files(root.path());
        for options in [options, &["--uninstall"]] {
            let output = Command::new(script()).args(options).arg(root.path()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{link} {options:?}: {text}");
            let expected = format!("{} is a link to something that is no folder in", there.display());
            assert!(text.contains(&expected) && text.lines().count() == 1, "{link}: {text}");
        }
        assert_eq!(files(root.path()), before, "{link}");
        assert_eq!(files(outside.path()), Vec::<String>::new(), "{link}");
    }
    // One inside is as good as a folder.
    let root = skeleton();
    std::fs::create_dir_all(root.path().join("system/lib")).unwrap();
    std::os::unix::fs::symlink("system", root.path().join("usr")).unwrap();
    install(root.path(), &[], None);
    assert!(root.path().join("system/lib/systemd/system/tidegate.service").exists());
}
