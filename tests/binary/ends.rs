//! Limits of the system and signals: one line with the right code, and nothing half written is left.

use crate::files::{Folder, stories};
use crate::limits::limited;
use crate::run::{json, run, trill};
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// `command` under another limit than that of memory.
fn under(mut command: Command, resource: Resource, most: u64) -> Command {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: setrlimit is async-signal-safe and reads `limit` only.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command
}

fn told(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Waits until the program handles `signal`; false if it ends before.
fn catches(child: &mut Child, signal: libc::c_int) -> bool {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|l| l.strip_prefix("SigCgt:")).map(str::trim);
        let mask = mask.and_then(|m| u64::from_str_radix(m, 16).ok()).unwrap_or(0);
        if mask & (1 << (signal - 1)) != 0 {
            return true;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "signal {signal} is never handled");
        std::thread::yield_now();
    }
    false
}

fn send(child: &Child, signal: libc::c_int) {
    // SAFETY: kill takes any number; the child has not been waited for, so its number is its own.
    unsafe { libc::kill(child.id() as libc::pid_t, signal) };
}

#[test]
fn asked_to_end_it_leaves_nothing() {
    let folder = Folder::new("ends-asked");
    let out = folder.file("out.gguf");
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 143), (libc::SIGHUP, 129)] {
        for old in [None, Some("old")] {
            let mut stopped = 0;
            for i in 0..12 {
                let _ = fs::remove_file(&out);
                old.iter().for_each(|old| fs::write(&out, old).unwrap());
                let mut command = trill(&["quantize", &stories(), &out, "F32", "-q", "--force", "-t", "1"]);
                let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
                if catches(&mut child, signal) {
                    std::thread::sleep(Duration::from_millis(i));
                    send(&child, signal);
                }
                let ended = child.wait_with_output().unwrap();
                match ended.status.code() {
                    Some(0) => assert!(fs::metadata(&out).unwrap().len() > 1000),
                    got => {
                        assert_eq!(got, Some(code), "signal {signal}: {}", told(&ended));
                        assert_eq!(told(&ended).lines().count(), 1, "{}", told(&ended));
                        assert_eq!(fs::read_to_string(&out).ok().as_deref(), old);
                        stopped += 1;
                    }
                }
                assert!(folder.names().iter().all(|name| name == "out.gguf"), "{:?}", folder.names());
            }
            assert!(stopped > 0, "signal {signal}: every run was quicker");
        }
    }
}

/// What ends a program without asking, and lets it run nothing.
#[test]
fn killed_it_leaves_nothing_of_its_own() {
    let folder = Folder::new("ends-killed");
    let out = folder.file("out.gguf");
    for signal in [libc::SIGKILL, libc::SIGQUIT, libc::SIGABRT, libc::SIGXCPU, libc::SIGUSR1, libc::SIGALRM] {
        for i in 0..4 {
            fs::write(&out, "old").unwrap();
            let mut child = trill(&["quantize", &stories(), &out, "F32", "-q", "--force", "-t", "1"]).spawn().unwrap();
            if catches(&mut child, libc::SIGTERM) {
                std::thread::sleep(Duration::from_millis(4 * i));
                send(&child, signal);
            }
            let ended = child.wait().unwrap();
            assert!(ended.success() || ended.signal() == Some(signal), "{ended:?}");
            // A killed run may leave a name that no run uses again, where files need names.
            assert!(folder.names().iter().all(|n| n == "out.gguf" || n.starts_with(".trill-")), "{:?}", folder.names());
        }
    }
}

#[test]
fn a_conversation_that_is_asked_to_end_is_saved() {
    let folder = Folder::new("ends-run");
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGHUP, 129), (libc::SIGINT, 130)] {
        let session = folder.file(&signal.to_string());
        let model = stories();
        let line = ["run", "-m", &model, "-p", "Once upon a time", "-n", "2000", "--ignore-eos", "--session", &session];
        let policy = ["--context-policy", "slide", "-t", "1"];
        let mut command = trill(&[&line[..], &policy].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert!(catches(&mut child, signal), "it ends by itself");
        std::thread::sleep(Duration::from_millis(100));
        send(&child, signal);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(code), "{}", told(&ended));
        let again = run(trill(&["run", "-m", &model, "-n", "1", "--session", &session]), "");
        assert!(told(&again).contains("restored "), "{}", told(&again));
    }
}

#[test]
fn the_limit_on_file_sizes_is_an_error() {
    let folder = Folder::new("ends-fsize");
    let out = folder.file("out.gguf");
    let model = stories();
    for most in [0, 1, 100, 4096, 100_000, 1 << 20] {
        for words in [&["quantize", &model, &out, "F32"][..], &["pack", &model, &out, "--for", "generic", "-q"]] {
            let ended = run(under(trill(words), libc::RLIMIT_FSIZE, most), "");
            assert_eq!(ended.status.code(), Some(74), "{most}: {:?} {}", ended.status, told(&ended));
            let line = told(&ended);
            assert!(line.lines().filter(|l| l.contains("file too large")).count() == 1, "{line}");
            assert!(folder.names().is_empty(), "{:?}", folder.names());
        }
        // A text goes on without being saved; what tune finds is not remembered.
        let session = folder.file("s");
        let line = ["run", "-m", &model, "-p", "Once", "-n", "4", "--session", &session];
        let ended = run(under(trill(&line), libc::RLIMIT_FSIZE, most.min(1000)), "");
        assert!(ended.status.success() && told(&ended).contains("saved"), "{:?} {}", ended.status, told(&ended));
        let _ = fs::remove_file(&session);
        assert!(folder.names().is_empty(), "{:?}", folder.names());
    }
    let mut tune = trill(&["tune", "-t", "1"]);
    tune.env("XDG_CACHE_HOME", folder.file("cache"));
    let ended = run(under(tune, libc::RLIMIT_FSIZE, 0), "");
    assert!(ended.status.success(), "{:?} {}", ended.status, told(&ended));
    let left = fs::read_dir(folder.file("cache/trill")).map_or(0, Iterator::count);
    assert!(left == 0 && told(&ended).contains("not remembered"), "{left} {}", told(&ended));
}

#[test]
fn few_descriptors_are_an_error_or_enough() {
    let folder = Folder::new("ends-nofile");
    let (out, model) = (folder.file("out.gguf"), stories());
    // Under five, the loader of the program itself finds no descriptors for its libraries.
    for most in 4..12 {
        for words in [
            &["run", "-m", &model, "-p", "Once", "-n", "2"][..],
            &["inspect", &model],
            &["plan", &model],
            &["quantize", &model, &out, "Q8_0", "-q"],
            &["run", "-m", &model, "-p", "Once", "-n", "2", "--session", &out],
        ] {
            let ended = run(under(trill(words), libc::RLIMIT_NOFILE, most), "");
            let code = ended.status.code();
            assert!(matches!(code, Some(0 | 73 | 74)), "{most} {words:?}: {:?} {}", ended.status, told(&ended));
            assert!(code == Some(0) || told(&ended).lines().count() == 1, "{}", told(&ended));
            let _ = fs::remove_file(&out);
            assert!(folder.names().is_empty(), "{:?}", folder.names());
        }
    }
}

/// A sparse file that holds the tiny model and then nothing, so that it is larger than the address space: gaps between
/// tensors and the end are allowed.
fn large(folder: &Folder, bytes: u64) -> String {
    let path = folder.file("large.gguf");
    fs::copy(stories(), &path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
    path
}

#[test]
fn what_cannot_be_mapped_is_planned_all_the_same() {
    let folder = Folder::new("ends-as");
    let (model, out) = (large(&folder, 4 << 30), folder.file("out.gguf"));
    let free = json(trill(&["plan", &model, "--json"]));
    for limit in [40 << 20, 100 << 20, 1 << 30] {
        let plan = json(limited(trill(&["plan", &model, "--json"]), limit));
        assert!(plan["fits"] == false && plan["weights_bytes"] == 4u64 << 30, "{plan}");
        assert_eq!(plan["kv_bytes"], free["kv_bytes"]);
        let listed = ["inspect", &model, "--weights", "--json"];
        let (narrow, wide) = (json(limited(trill(&listed), limit)), json(trill(&listed)));
        assert_eq!(narrow["tensors"], wide["tensors"]);
        let ids = run(limited(trill(&["tokenize", "-m", &model, "-p", "Once upon"]), limit), "");
        assert!(ids.status.success(), "{}", told(&ids));
        for words in [
            &["run", "-m", &model, "-p", "x", "-n", "1"][..],
            &["run", "-m", &model, "-p", "x", "-n", "1", "--no-mmap"],
            &["bench", "-m", &model],
            &["logits", "-m", &model, "--tokens", "1"],
            &["quantize", &model, &out, "Q8_0"],
            &["pack", &model, &out],
            &["doctor", "-m", &model],
        ] {
            let ended = run(limited(trill(words), limit), "");
            let line = told(&ended);
            assert_eq!(ended.status.code(), Some(75), "{limit} {words:?}: {:?} {line}", ended.status);
            let last = line.trim_end().lines().last().unwrap();
            // `doctor` measures how fast memory is first, which may need too much by itself.
            assert!(last.contains("needed") && (last.contains("GiB") || words[0] == "doctor"), "{words:?}: {line}");
        }
    }
    assert_eq!(folder.names(), ["large.gguf"]);
}

/// SmolLM2's metadata is longer than what is mapped first.
#[test]
fn long_metadata_is_read_piece_by_piece() {
    let Some(model) = crate::run::smollm2() else { return };
    let folder = Folder::new("ends-as-smollm2");
    let large = folder.file("large.gguf");
    fs::copy(&model, &large).unwrap();
    fs::File::options().write(true).open(&large).unwrap().set_len(4 << 30).unwrap();
    let bytes = fs::metadata(&model).unwrap().len();
    for (path, limit) in [(model.to_str().unwrap(), bytes), (model.to_str().unwrap(), 60 << 20), (&large, 100 << 20)] {
        let plan = |command| json(command)["scratch_bytes"].clone();
        let narrow = plan(limited(trill(&["plan", path, "-t", "1", "--json"]), limit));
        assert_eq!(narrow, plan(trill(&["plan", path, "-t", "1", "--json"])));
        let ended = run(limited(trill(&["run", "-m", path, "-p", "x", "-n", "1"]), limit), "");
        assert_eq!(ended.status.code(), Some(75), "{}", told(&ended));
        assert!(told(&ended).contains("needed"), "{}", told(&ended));
    }
}

/// From too little for anything on: an answer, or 75 and one line. (What the loader of the program needs is not ours.)
#[test]
fn little_address_space_is_told_as_such() {
    let model = stories();
    let floor = (1..200u64)
        .map(|mib| mib << 20)
        .find(|&limit| run(limited(trill(&["--version"]), limit), "").status.success())
        .expect("some limit is enough for a version");
    for limit in (0..14).map(|i| floor + i * (1 << 20)).chain([12_000_000.max(floor), 12_288_000.max(floor)]) {
        for words in [
            &["run", "-m", &model, "-p", "Once", "-n", "2", "-t", "2"][..],
            &["plan", &model],
            &["inspect", &model],
            &["tokenize", "-m", &model, "-p", "Once upon a time"],
        ] {
            let ended = run(limited(trill(words), limit), "");
            let code = ended.status.code();
            assert!(matches!(code, Some(0 | 75)), "{limit} {words:?}: {:?} {}", ended.status, told(&ended));
            assert!(code == Some(0) || told(&ended).lines().count() == 1, "{}", told(&ended));
        }
    }
}

#[test]
fn threads_that_cannot_start_are_done_without() {
    let folder = Folder::new("ends-nproc");
    let out = folder.file("out.gguf");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&folder.0, mode).unwrap();
    let model = folder.file("in.gguf");
    fs::copy(stories(), &model).unwrap();
    let alone = |words: &[&str]| {
        let mut command = under(trill(words), libc::RLIMIT_NPROC, 1);
        command.env("XDG_CACHE_HOME", folder.file("cache"));
        // SAFETY: geteuid only reads. The limit does not hold for root, so root becomes a user of its own.
        if unsafe { libc::geteuid() } == 0 {
            command.uid(61_234).gid(61_234);
        }
        run(command, "")
    };
    let whole = run(trill(&["run", "-m", &model, "-p", "Once", "-n", "8", "--temp", "0", "-t", "1"]), "");
    let ended = alone(&["run", "-m", &model, "-p", "Once", "-n", "8", "--temp", "0", "-t", "4"]);
    assert!(ended.status.success() && told(&ended).contains("threads could be started"), "{}", told(&ended));
    assert_eq!(told(&ended).lines().count(), 1, "{}", told(&ended));
    assert_eq!(ended.stdout, whole.stdout);
    // The tensors of the tiny model are too small for `quantize` to need a second thread.
    for (words, written, refused) in [
        (&["quantize", &model, &out, "Q8_0", "-t", "4"][..], true, 0),
        (&["pack", &model, &out, "--for", "generic", "-t", "4"], true, 1),
        (&["tune", "-t", "4"], false, 1),
    ] {
        let ended = alone(words);
        assert!(ended.status.success(), "{words:?}: {:?} {}", ended.status, told(&ended));
        assert_eq!(told(&ended).matches("could be started").count(), refused, "{}", told(&ended));
        assert_eq!(Path::new(&out).exists(), written);
        let _ = fs::remove_file(&out);
    }
}
