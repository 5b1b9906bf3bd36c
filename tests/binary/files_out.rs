//! Files: what is written, over what, and what is left when it does not come to an end. `docs/security.md` has the rules.

use crate::files::{Folder, refused, stories};
use crate::run::{answer, run, trill};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far longer than anything here takes; a run that waits for somebody waits for ever.
const PATIENCE: Duration = Duration::from_secs(60);

fn fifo(path: &str) {
    let path = std::ffi::CString::new(path).unwrap();
    // SAFETY: mkfifo reads a terminated string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o666) }, 0);
}

fn is_root() -> bool {
    // SAFETY: geteuid only reads.
    unsafe { libc::geteuid() == 0 }
}

/// The command as a user who may do nothing to the system: root could replace `/dev/null`, and once did.
fn unprivileged(mut command: Command) -> Command {
    if is_root() {
        command.uid(65534).gid(65534);
    }
    command
}

/// How a run that may wait for ever ends.
fn ends(mut command: Command) -> Output {
    let shown = format!("{command:?}");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("trill starts");
    let (id, start) = (child.id() as libc::pid_t, Instant::now());
    let (done, ended) = std::sync::mpsc::channel();
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE).is_err() {
            // SAFETY: the child has not been waited for: its number is its own.
            unsafe { libc::kill(id, libc::SIGKILL) };
        }
    });
    let out = child.wait_with_output().expect("trill ends");
    let _ = done.send(());
    watch.join().unwrap();
    assert!(start.elapsed() < PATIENCE, "{shown} hangs");
    out
}

/// Exit code and the one line of a run that must fail.
fn fails(command: Command) -> (i32, String) {
    let shown = format!("{command:?}");
    let out = ends(command);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(told.trim_end().lines().count() == 1, "{shown}: {:?} {told}", out.status);
    (out.status.code().unwrap_or_else(|| panic!("{shown}: {:?}", out.status)), told)
}

/// The three commands that write models, each with arguments that work but for OUT.
fn writers(folder: &Folder) -> Vec<(Vec<String>, String)> {
    let input = folder.file("in.gguf");
    fs::copy(stories(), &input).unwrap();
    let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    vec![(words(&["quantize", &input]), "Q8_0".to_owned()), (words(&["pack", &input]), String::new())]
}

fn line(before: &[String], out: &str, after: &str, more: &[&str]) -> Vec<String> {
    let mut all = before.to_vec();
    all.push(out.to_owned());
    all.extend([after].into_iter().chain(more.iter().copied()).filter(|w| !w.is_empty()).map(str::to_owned));
    all
}

fn command(words: &[String]) -> Command {
    trill(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn an_output_that_is_no_regular_file_is_refused() {
    let folder = Folder::new("out-kinds");
    let (pipe, socket, inner) = (folder.file("pipe"), folder.file("socket"), folder.file("inner"));
    fifo(&pipe);
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::create_dir(&inner).unwrap();
    let (to_null, to_pipe) = (folder.file("to-null"), folder.file("to-pipe"));
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
    symlink("/dev/null", &to_null).unwrap();
    symlink("pipe", &to_pipe).unwrap();
    for (before, after) in writers(&folder) {
        for (out, kind) in [
            ("/dev/null", "a character device"),
            ("/dev/full", "a character device"),
            (&to_null, "a character device"),
            (&pipe, "a FIFO"),
            (&to_pipe, "a FIFO"),
            (&socket, "a socket"),
            (&inner, "a folder"),
            ("/proc/self/fd/1", "a FIFO"),
        ] {
            let names = folder.names();
            for force in ["", "--force"] {
                let (code, told) = fails(unprivileged(command(&line(&before, out, &after, &[force]))));
                assert!(code == 73 && told.contains(kind) && told.contains(out), "{out}: {code} {told}");
            }
            assert_eq!(folder.names(), names, "{out}");
        }
    }
    let kind = |path: &str| fs::symlink_metadata(path).unwrap().file_type();
    // Root, who may replace devices, on one of its own.
    if is_root() {
        let own = folder.file("own");
        let path = std::ffi::CString::new(own.as_str()).unwrap();
        // SAFETY: mknod reads a terminated string.
        let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) } == 0;
        for (before, after) in writers(&folder).into_iter().filter(|_| made) {
            let (code, told) = fails(command(&line(&before, &own, &after, &["--force"])));
            assert!(code == 73 && told.contains("a character device") && kind(&own).is_char_device(), "{code} {told}");
        }
    }
    assert!(kind("/dev/null").is_char_device() && kind(&pipe).is_fifo() && kind(&socket).is_socket());
    assert!(kind(&to_null).is_symlink() && kind(&to_pipe).is_symlink());
}

#[test]
fn an_output_is_overwritten_only_by_force() {
    let folder = Folder::new("out-force");
    for (before, after) in writers(&folder) {
        let out = folder.file("out.gguf");
        for old in ["", "my notes"] {
            fs::write(&out, old).unwrap();
            let (code, told) = fails(command(&line(&before, &out, &after, &["-q"])));
            assert!(code == 73 && told.contains("--force"), "{code} {told}");
            let (code, told) = fails(command(&line(&before, &out, &after, &["-q", "--json"])));
            assert!(code == 73 && told.contains("\"code\":73"), "{code} {told}");
            assert_eq!(fs::read_to_string(&out).unwrap(), old);
        }
        // The new file has the rights of the old one, and a link goes on leading to it.
        fs::set_permissions(&out, fs::Permissions::from_mode(0o640)).unwrap();
        let soft = folder.file("soft.gguf");
        symlink("out.gguf", &soft).unwrap();
        answer(command(&line(&before, &soft, &after, &["-q", "--force"])), "");
        let about = fs::symlink_metadata(&out).unwrap();
        assert!(about.is_file() && about.len() > 1000 && about.mode() & 0o777 == 0o640, "{about:?}");
        assert!(fs::symlink_metadata(&soft).unwrap().is_symlink());
        for name in [&out, &soft] {
            fs::remove_file(name).unwrap();
        }
        // A link that leads to nothing yet.
        symlink("later.gguf", &soft).unwrap();
        answer(command(&line(&before, &soft, &after, &["-q"])), "");
        assert!(fs::symlink_metadata(folder.file("later.gguf")).unwrap().is_file());
        assert_eq!(folder.names(), ["in.gguf", "later.gguf", "soft.gguf"]);
        fs::remove_file(&soft).unwrap();
        fs::remove_file(folder.file("later.gguf")).unwrap();
    }
}

/// A terminal; what is written to the first appears as typed on the second.
fn terminal() -> (File, File) {
    let (mut master, mut slave) = (0, 0);
    let (name, mode, size) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: openpty fills the two descriptors; the other arguments may be null.
    assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, name, mode, size) }, 0);
    // SAFETY: both descriptors were just made and belong to nobody else.
    unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) }
}

#[test]
fn at_a_terminal_overwriting_is_asked() {
    let folder = Folder::new("out-ask");
    let out = folder.file("out.gguf");
    for (typed, overwritten) in
        [("n\n", false), ("\n", false), ("\x04", false), ("nothing\n", false), ("y\n", true), ("YES\n", true)]
    {
        fs::write(&out, "old").unwrap();
        let (mut master, slave) = terminal();
        let mut command = trill(&["quantize", &stories(), &out, "Q8_0"]);
        command.stdin(slave.try_clone().unwrap()).stdout(Stdio::null()).stderr(slave);
        let mut child = command.spawn().unwrap();
        drop(command);
        let (mut shown, mut byte) = (String::new(), [0]);
        while !shown.ends_with("[y/N] ") && master.read(&mut byte).is_ok_and(|n| n > 0) {
            shown.push(char::from(byte[0]));
        }
        assert!(shown.ends_with("[y/N] "), "{shown}");
        master.write_all(typed.as_bytes()).unwrap();
        let mut rest = Vec::new();
        let _ = master.read_to_end(&mut rest);
        let code = child.wait().unwrap().code();
        assert_eq!(code, Some(if overwritten { 0 } else { 73 }), "{typed:?}: {}", String::from_utf8_lossy(&rest));
        assert_eq!(fs::read(&out).unwrap() != b"old", overwritten, "{typed:?}");
    }
}

#[test]
fn the_input_is_never_overwritten() {
    let folder = Folder::new("out-same");
    for (before, after) in writers(&folder) {
        let input = before[1].clone();
        let whole = fs::read(&input).unwrap();
        let (hard, soft, chain) = (folder.file("hard"), folder.file("soft"), folder.file("chain"));
        fs::hard_link(&input, &hard).unwrap();
        symlink("in.gguf", &soft).unwrap();
        symlink("soft", &chain).unwrap();
        let twisted = folder.file("../").trim_end_matches('/').to_owned();
        let twisted = format!("{twisted}/{}/in.gguf", folder.0.file_name().unwrap().to_str().unwrap());
        for same in [&input, &hard, &soft, &chain, &folder.file("./in.gguf"), &twisted] {
            let (code, told) = fails(command(&line(&before, same, &after, &["--force"])));
            assert!(code == 64 && told.contains("same file"), "{same}: {code} {told}");
        }
        assert!(fs::read(&input).unwrap() == whole);
        [hard, soft, chain].iter().for_each(|f| fs::remove_file(f).unwrap());
        assert_eq!(folder.names(), ["in.gguf"]);
    }
}

/// A Hugging Face folder's files are inputs, whatever they are for.
#[test]
fn convert_overwrites_nothing_of_its_folder() {
    let folder = Folder::new("out-convert");
    for name in ["config.json", "tokenizer.json", "model.safetensors", "README.md"] {
        fs::write(folder.file(name), "{}").unwrap();
    }
    let outside = Folder::new("out-convert-link");
    symlink(folder.file("config.json"), outside.file("soft")).unwrap();
    fs::hard_link(folder.file("README.md"), outside.file("hard")).unwrap();
    let all = ["config.json", "tokenizer.json", "model.safetensors", "README.md"].map(|name| folder.file(name));
    for out in all.iter().chain(&[outside.file("soft"), outside.file("hard")]) {
        let (code, told) = refused(&["convert", &folder.file(""), out, "--force"]);
        assert!(code == 64 && told.contains("same file"), "{out}: {code} {told}");
        assert_eq!(fs::read_to_string(out).unwrap(), "{}");
    }
    let (code, told) = fails(unprivileged(trill(&["convert", &folder.file(""), "/dev/null"])));
    assert!(code == 73 && told.contains("a character device"), "{code} {told}");
    fs::write(outside.file("there"), "old").unwrap();
    let (code, told) = refused(&["convert", &folder.file(""), &outside.file("there")]);
    assert!(code == 73 && told.contains("--force"), "{code} {told}");
}

/// Names that trill has used for its own, planted by somebody else or simply there.
#[test]
fn nothing_else_in_the_folder_is_touched() {
    let folder = Folder::new("out-beside");
    let (precious, out) = (folder.file("precious"), folder.file("out.gguf"));
    for (before, after) in writers(&folder) {
        fs::write(&precious, "precious").unwrap();
        let planted = [".out.gguf.part", "out.gguf.new", "out.gguf.part", "out.gguf.tmp", "out.gguf~", ".trill-0.part"];
        for (i, name) in planted.iter().enumerate() {
            match i % 2 {
                0 => symlink("precious", folder.file(name)).unwrap(),
                _ => fs::write(folder.file(name), "mine").unwrap(),
            }
        }
        let mut names = folder.names();
        answer(command(&line(&before, &out, &after, &["-q"])), "");
        names.push("out.gguf".to_owned());
        names.sort();
        assert_eq!(folder.names(), names);
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        for (i, name) in planted.iter().enumerate() {
            let about = fs::symlink_metadata(folder.file(name)).unwrap();
            assert_eq!(about.is_symlink(), i % 2 == 0);
            assert!(about.is_symlink() || fs::read_to_string(folder.file(name)).unwrap() == "mine");
            fs::remove_file(folder.file(name)).unwrap();
        }
        fs::remove_file(&out).unwrap();
    }
    // An input that has such a name itself.
    let input = folder.file(".x.gguf.part");
    fs::copy(stories(), &input).unwrap();
    answer(trill(&["quantize", &input, &folder.file("x.gguf"), "Q8_0", "-q"]), "");
    assert!(fs::read(&input).unwrap() == fs::read(stories()).unwrap());
}

#[test]
fn a_session_touches_nothing_that_is_none() {
    let folder = Folder::new("out-session");
    let session = folder.file("notes.txt");
    let beside = ["notes.txt.new", ".notes.txt.part", "notes.txt.bak", "notes.txt.lock", "notes.txt~"];
    let tell = |path: &str| run(trill(&["run", "-m", &stories(), "-p", "Once", "-n", "4", "--session", path]), "");
    for (notes, is_kept) in [(Some("Dear diary"), false), (Some("\u{89}trillS"), false), (None, true)] {
        let _ = fs::remove_file(&session);
        beside.iter().for_each(|name| fs::write(folder.file(name), name).unwrap());
        if let Some(notes) = notes {
            fs::write(&session, notes).unwrap();
            fs::set_permissions(&session, fs::Permissions::from_mode(0o644)).unwrap();
        }
        let out = tell(&session);
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && told.contains("not saved") != is_kept, "{told}");
        beside.iter().for_each(|name| assert_eq!(&fs::read_to_string(folder.file(name)).unwrap(), name));
        if let Some(notes) = notes {
            assert_eq!(fs::read_to_string(&session).unwrap(), notes);
            assert_eq!(fs::metadata(&session).unwrap().mode() & 0o777, 0o644);
        }
        assert_eq!(folder.names().len(), 1 + beside.len());
    }
    // What is no file is said to be none, at once.
    let (pipe, socket) = (folder.file("pipe"), folder.file("socket"));
    fifo(&pipe);
    let _listener = UnixListener::bind(&socket).unwrap();
    let whole = answer(trill(&["run", "-m", &stories(), "-p", "Once", "-n", "4", "--temp", "0"]), "");
    for (path, kind) in [
        (pipe.as_str(), "a FIFO"),
        (&socket, "a socket"),
        ("/dev/null", "a character device"),
        ("/dev/zero", "a character device"),
        (&folder.file(""), "a folder"),
    ] {
        let line = ["run", "-m", &stories(), "-p", "Once", "-n", "4", "--temp", "0", "--session", path];
        let out = ends(if path.starts_with("/dev/") { unprivileged(trill(&line)) } else { trill(&line) });
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && told.contains(kind) && told.contains("not saved"), "{path}: {told}");
        assert_eq!(String::from_utf8_lossy(&out.stdout), whole);
    }
}

#[test]
fn a_session_that_others_could_read_is_made_private() {
    let folder = Folder::new("out-mode");
    let session = folder.file("s");
    let tell = |more: &[&str]| {
        let model = stories();
        let line = ["run", "-m", &model, "-p", "Once upon", "-n", "4", "--session", &session];
        let out = run(trill(&[&line[..], more].concat()), "");
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let mode = || fs::metadata(&session).unwrap().mode() & 0o777;
    tell(&[]);
    for open in [0o666, 0o644, 0o640, 0o604, 0o777, 0o620] {
        fs::set_permissions(&session, fs::Permissions::from_mode(open)).unwrap();
        let told = tell(&["-v"]);
        assert!(mode() == 0o600 && told.contains("others could read it"), "{open:o}: {:o} {told}", mode());
    }
    // One that is not used is left as it is.
    fs::set_permissions(&session, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(tell(&["--cache-type", "q8"]).contains("not saved"));
    assert_eq!(mode(), 0o644);
    // Another user's, even if it is open to all: nobody shall lay one ready for what others say.
    // Only root can be two users.
    if is_root() {
        fs::set_permissions(&session, fs::Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).unwrap();
        let before = fs::read(&session).unwrap();
        let model = folder.file("model.gguf");
        fs::copy(stories(), &model).unwrap();
        fs::set_permissions(&model, fs::Permissions::from_mode(0o644)).unwrap();
        let command = trill(&["run", "-m", &model, "-p", "Once upon", "-n", "4", "--session", &session]);
        let out = run(unprivileged(command), "");
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && told.contains("another user's") && told.contains("not saved"), "{told}");
        assert!(fs::read(&session).unwrap() == before && mode() == 0o666);
        fs::remove_file(&model).unwrap();
    }
    // One that is empty, as mktemp makes it.
    fs::write(&session, "").unwrap();
    tell(&[]);
    assert!(mode() == 0o600 && fs::metadata(&session).unwrap().len() > 1000);
}

/// Processor time of a run's end, in seconds.
fn processor_seconds(command: Command) -> (Output, f64) {
    let used = || {
        // SAFETY: a zeroed rusage is valid; getrusage fills it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
            usage
        };
        let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
        seconds(usage.ru_utime) + seconds(usage.ru_stime)
    };
    let before = used();
    let out = ends(command);
    (out, used() - before)
}

/// Holes and zeros that nobody wrote cost nothing. Children of other tests may end meanwhile, so the least of some tries
/// counts.
#[test]
fn a_session_with_a_huge_tail_is_told_at_once() {
    let folder = Folder::new("out-tail");
    let session = folder.file("s");
    let tell = || trill(&["run", "-m", &stories(), "-p", "Once upon a time", "-n", "4", "--session", &session]);
    run(tell(), "");
    let sound = fs::read(&session).unwrap();
    let head = 128;
    for (length, kept) in [
        (sound.len(), 60 << 20),
        (sound.len(), 1 << 30),
        (sound.len(), 16 << 30),
        (head, 16 << 30),
        (sound.len() - 40, 16 << 30),
        (0, 16 << 30),
    ] {
        let least = (0..5)
            .map(|_| {
                fs::write(&session, &sound[..length]).unwrap();
                File::options().write(true).open(&session).unwrap().set_len(kept).unwrap();
                let (out, seconds) = processor_seconds(tell());
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                seconds
            })
            .fold(f64::INFINITY, f64::min);
        assert!(least < 5.0, "{length} bytes, then zeros to {kept}: {least} s");
    }
}

#[test]
fn a_model_that_is_no_regular_file_is_refused_at_once() {
    let folder = Folder::new("in-kinds");
    let (pipe, socket, soft) = (folder.file("pipe"), folder.file("socket"), folder.file("soft"));
    fifo(&pipe);
    let _listener = UnixListener::bind(&socket).unwrap();
    symlink("pipe", &soft).unwrap();
    let out = folder.file("out.gguf");
    for (path, kind) in [
        (pipe.as_str(), "a FIFO"),
        (&soft, "a FIFO"),
        (&socket, "a socket"),
        ("/dev/zero", "a character device"),
        ("/dev/null", "a character device"),
        ("/dev/tty", "a character device"),
        (folder.0.to_str().unwrap(), "a folder"),
        ("/dev/stdin", "a FIFO"),
    ] {
        for words in [
            &["run", "-m", path, "-p", "x"][..],
            &["chat", "-m", path, "-f", "/dev/null"],
            &["bench", "-m", path],
            &["perplexity", "-m", path, "-f", "/dev/null"],
            &["logits", "-m", path, "--tokens", "1"],
            &["tokenize", "-m", path, "-p", "x"],
            &["detokenize", "-m", path, "-p", "1"],
            &["inspect", path],
            &["plan", path],
            &["quantize", path, &out, "Q8_0"],
            &["pack", path, &out],
            &["doctor", "-m", path],
            &["tune", "-m", path],
        ] {
            let mut line = trill(words);
            let (_reader, writer) = std::io::pipe().unwrap();
            if path == "/dev/stdin" {
                line.stdin(_reader);
            }
            let ended = ends(line);
            drop(writer);
            let told = String::from_utf8_lossy(&ended.stderr);
            let last = told.trim_end().lines().last().unwrap_or_default();
            assert!(ended.status.code() == Some(66) && last.contains(kind), "{words:?}: {:?} {told}", ended.status);
        }
    }
    assert_eq!(folder.names(), ["pipe", "socket", "soft"].map(str::to_owned));
    // Files of a folder to convert.
    let hf = Folder::new("in-kinds-hf");
    fifo(&hf.file("config.json"));
    let (code, told) = fails(trill(&["convert", &hf.file(""), &out]));
    assert!(code == 66 && told.contains("config.json") && told.contains("a FIFO"), "{code} {told}");
    for name in ["tokenizer.json", "model.safetensors"] {
        let _ = fs::remove_file(hf.file("config.json"));
        fs::write(hf.file("config.json"), r#"{"architectures":["LlamaForCausalLM"]}"#).unwrap();
        let _ = fs::remove_file(hf.file(name));
        fifo(&hf.file(name));
        let (code, _) = fails(trill(&["convert", &hf.file(""), &out]));
        assert!([65, 66].contains(&code), "{name}: {code}");
    }
}

#[test]
fn a_file_that_may_not_be_read_or_made() {
    let folder = Folder::new("denied");
    let (locked, inner) = (folder.file("locked.gguf"), folder.file("inner"));
    fs::copy(stories(), &locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    let unprivileged = |words: &[&str]| unprivileged(trill(words));
    for words in
        [&["inspect", &locked][..], &["run", "-m", &locked, "-p", "x"], &["tokenize", "-m", &locked, "-p", "x"]]
    {
        let (code, told) = fails(unprivileged(words));
        assert!(code == 66 && told.contains("permission denied"), "{code} {told}");
    }
    let readable = folder.file("in.gguf");
    fs::copy(stories(), &readable).unwrap();
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
    let out = format!("{inner}/out.gguf");
    let (code, told) = fails(unprivileged(&["quantize", &readable, &out, "Q8_0"]));
    assert!(code == 73 && told.contains("permission denied"), "{code} {told}");
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn texts_may_come_from_pipes() {
    let folder = Folder::new("in-pipes");
    let pipe = folder.file("pipe");
    fifo(&pipe);
    let model = stories();
    let whole = answer(trill(&["tokenize", "-m", &model, "-p", "Once upon a time"]), "");
    let give = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::write(pipe, "Once upon a time").unwrap())
    };
    let out = ends(trill(&["tokenize", "-m", &model, "-f", &pipe]));
    give.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), whole);
    for from in ["-", "/dev/stdin", "/proc/self/fd/0"] {
        assert_eq!(answer(trill(&["tokenize", "-m", &model, "-f", from]), "Once upon a time"), whole, "{from}");
    }
    assert!(answer(trill(&["tokenize", "-m", &model, "-f", "/dev/null"]), "").split_whitespace().count() <= 1);
    // What has no end is none.
    let socket = folder.file("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (from, kind) in [
        ("/dev/zero", "a character device"),
        ("/dev/urandom", "a character device"),
        ("/dev/full", "a character device"),
        (folder.0.to_str().unwrap(), "a folder"),
        (&socket, "a socket"),
    ] {
        let (code, told) = fails(trill(&["tokenize", "-m", &model, "-f", from]));
        assert!(code == 66 && told.contains(kind), "{from}: {code} {told}");
    }
}

/// One place writes files, and another opens what the user names: everything else goes through them.
#[test]
fn there_is_one_door() {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                // Unit tests stand at the end of a file and are free.
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
                let forbidden = [
                    "File::create",
                    "File::options",
                    "OpenOptions",
                    "File::open",
                    "fs::write(",
                    "fs::rename",
                    "fs::remove",
                    "fs::copy",
                    "fs::hard_link",
                    "set_permissions",
                    "fs::read(",
                    "symlink(",
                    "libc::open",
                    "set_len",
                ];
                let lines = code.lines().filter(|line| forbidden.iter().any(|word| line.contains(word)));
                found.extend(lines.map(|line| format!("{}: {}", path.display(), line.trim())));
            }
        }
    }
    let mut found = Vec::new();
    walk(&crate::run::in_repository("runtime-std/src"), &mut found);
    // `attempts.rs` tries whether the fence holds, `kept.rs` reads `/proc` and `/sys`.
    let doors = ["/host/files/", "/host/attempts.rs", "/template/tests.rs"];
    let allowed = |line: &String| {
        doors.iter().any(|door| line.contains(door))
            || line.contains("session/file.rs") && line.contains("set_len")
            || line.contains("/host/kept.rs") && line.contains("File::open(")
    };
    found.retain(|line| !allowed(line));
    assert!(found.is_empty(), "{found:#?}");
}
